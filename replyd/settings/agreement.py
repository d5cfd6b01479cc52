"""Settings that must agree with one another, and what would break if they did not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replyd.domain.content_template import MAX_NAME, MAX_VALUES, TEXT
from replyd.settings import ai_agreement
from replyd.settings.disagreement import Disagreement
from replyd.settings.values import ACCOUNT_SID

if TYPE_CHECKING:
    from replyd.settings.model import Settings

# SQS: DelaySeconds is at most 900.
LONGEST_WAIT = 900
# Below this a lease leaves no room for a model call, a send and its grace.
SHORTEST_LEASE = 20
# SQS: a message is kept for at most 14 days.
LONGEST_RETENTION_DAYS = 14
# Below it no answer says anything.
_LEAST_ANSWER = 100
_DAY_SECONDS = 24 * 60 * 60

_ANY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound


def disagreements(settings: Settings) -> list[Disagreement]:
    return [
        *_window(settings),
        *_turn(settings),
        *_queues(settings),
        *_accounts(settings),
        *_template(settings),
        *_others(settings),
        *_catch_up(settings),
        *_retention(settings),
        *ai_agreement.disagreements(settings),
    ]


def _window(s: Settings) -> Iterator[Disagreement]:
    quiet, longest = s.window.quiet_seconds, s.window.max_wait_seconds
    if quiet > longest:
        yield Disagreement(
            ("window.quiet_seconds", "window.max_wait_seconds"),
            f"window.quiet_seconds ({quiet:g}) must not be longer than window.max_wait_seconds "
            f"({longest:g}): every burst would be cut off before its quiet time is over",
        )
    if longest > LONGEST_WAIT:
        yield Disagreement(
            ("window.max_wait_seconds",),
            f"window.max_wait_seconds ({longest:g}) must be at most {LONGEST_WAIT}: SQS delays a "
            "wake-up no longer than that",
        )


def _turn(s: Settings) -> Iterator[Disagreement]:
    lease, watchdog, timeout = s.turn.lease_seconds, s.watchdog_seconds, s.twilio.timeout_seconds
    if lease < SHORTEST_LEASE:
        yield Disagreement(
            ("turn.lease_seconds",),
            f"turn.lease_seconds ({lease:g}) must be at least {SHORTEST_LEASE}: a shorter lease "
            "runs out between a reply and its record",
        )
    if watchdog + timeout >= lease:
        yield Disagreement(
            ("turn.watchdog_seconds", "twilio.timeout_seconds", "turn.lease_seconds"),
            f"turn.watchdog_seconds ({watchdog:g}) and twilio.timeout_seconds ({timeout:g}) must "
            f"together be shorter than turn.lease_seconds ({lease:g}): a send could still be on "
            "its way when another worker takes over, and no reply could ever start",
        )
    recovered = lease + s.turn.clock_skew_seconds + s.grace_seconds
    if s.turn.give_up_after_seconds <= recovered:
        yield Disagreement(
            ("turn.give_up_after_seconds", "turn.lease_seconds", "twilio.timeout_seconds"),
            f"turn.give_up_after_seconds ({s.turn.give_up_after_seconds:g}) must be longer than "
            f"turn.lease_seconds, turn.clock_skew_seconds and twice twilio.timeout_seconds "
            f"together ({recovered:g}): after a crash every reply under way would go to people",
        )


def _queues(s: Settings) -> Iterator[Disagreement]:
    lease, visibility, heartbeat = s.turn.lease_seconds, s.visibility_seconds, s.heartbeat_seconds
    if visibility > lease:
        yield Disagreement(
            ("queues.visibility_seconds", "turn.lease_seconds"),
            f"queues.visibility_seconds ({visibility}) must be at most turn.lease_seconds "
            f"({lease:g}): a killed process's wake-ups would stay hidden after its lease ended",
        )
    if heartbeat >= visibility:
        yield Disagreement(
            ("queues.heartbeat_seconds", "queues.visibility_seconds"),
            f"queues.heartbeat_seconds ({heartbeat:g}) must be shorter than "
            f"queues.visibility_seconds ({visibility}): wake-ups that are held would come again",
        )
    if s.queues.replies_url and s.queues.replies_url == s.queues.handoff_url:
        yield Disagreement(
            ("queues.handoff_url", "queues.replies_url"),
            "queues.handoff_url and queues.replies_url must be two queues: workers would answer "
            "what people were given",
        )


def _accounts(s: Settings) -> Iterator[Disagreement]:
    name, sids = s.twilio.secret_name, s.twilio.account_sids
    keys = ("twilio.secret_name", "twilio.account_sids")
    if sids and not name:
        yield Disagreement(
            keys,
            "twilio.secret_name is missing: the accounts in twilio.account_sids have their tokens "
            "in secrets of that name",
        )
    if name and not sids:
        yield Disagreement(
            keys,
            "twilio.account_sids is missing: only the accounts in it have their tokens in the "
            "secrets of twilio.secret_name",
        )
    if name and ACCOUNT_SID not in name and len(set(sids)) > 1:
        yield Disagreement(
            keys,
            f"twilio.secret_name must have {ACCOUNT_SID} in it: each of the {len(set(sids))} "
            "accounts in twilio.account_sids has a token of its own",
        )
    if both := set(sids) & set(s.twilio.accounts):
        yield Disagreement(
            ("twilio.account_sids", "twilio.accounts"),
            f"twilio.account_sids and twilio.accounts share {len(both)} of their accounts: it "
            "would not be clear which token counts",
        )


def _template(s: Settings) -> Iterator[Disagreement]:
    template = s.sending.template
    if template is None and s.sending.outside_window == "template":
        yield Disagreement(
            ("sending.template_sid", "sending.outside_window"),
            "sending.template_sid must name a template when sending.outside_window is template",
        )
    if template is None:
        return
    if sum(value.count(TEXT) for value in template.variables.values()) != 1:
        yield Disagreement(
            ("sending.template_variables", "sending.template_sid"),
            f"sending.template_variables must have {TEXT} in exactly one variable: without it the "
            "customer would not get the answer",
        )
    elif template.room("n" * MAX_NAME) < _LEAST_ANSWER:
        yield Disagreement(
            ("sending.template_variables",),
            f"sending.template_variables must leave {_LEAST_ANSWER} of {MAX_VALUES} characters to "
            "the answer",
        )


def _others(s: Settings) -> Iterator[Disagreement]:
    hosts = {s.server.host, s.ops.host}
    if s.server.port == s.ops.port != 0 and (len(hosts) == 1 or hosts & _ANY_ADDRESS):
        yield Disagreement(
            ("ops.port", "server.port"),
            f"ops.port and server.port ({s.ops.port}) must differ: the two servers cannot listen "
            "on one port",
        )
    if s.conversations.partition_key == s.conversations.sort_key:
        yield Disagreement(
            ("conversations.sort_key", "conversations.partition_key"),
            "conversations.sort_key and conversations.partition_key must be two attributes; "
            "sort_key is empty for a table without one",
        )
    if s.unknown_sender.policy == "notify" and not s.unknown_sender.notice_text:
        yield Disagreement(
            ("unknown_sender.notice_text", "unknown_sender.policy"),
            'unknown_sender.notice_text is missing: unknown_sender.policy "notify" sends it to '
            "senders without a conversation",
        )
    if both := sorted(set(s.opt_out.stop_words) & set(s.opt_out.start_words)):
        yield Disagreement(
            ("opt_out.start_words", "opt_out.stop_words"),
            f"opt_out.start_words and opt_out.stop_words share {len(both)} of their words: one "
            "message cannot both end and resume the replies",
        )
    if s.history.seen_days <= LONGEST_RETENTION_DAYS:
        yield Disagreement(
            ("history.seen_days",),
            f"history.seen_days ({s.history.seen_days}) must be more than "
            f"{LONGEST_RETENTION_DAYS}: SQS can keep a message that long, and one that is "
            "forgotten by then would be answered twice",
        )


def _retention(s: Settings) -> Iterator[Disagreement]:
    record, archive = s.retention.record_days, s.retention.archive_days
    if record and not archive:
        yield Disagreement(
            ("retention.archive_days", "retention.record_days"),
            "retention.archive_days is missing: the archive of a conversation that is gone would "
            "stay for ever, and nothing would lead to it",
        )
    if record and record < s.history.seen_days:
        yield Disagreement(
            ("retention.record_days", "history.seen_days"),
            f"retention.record_days ({record}) must be at least history.seen_days "
            f"({s.history.seen_days}): a message that comes once more would be taken for a new one",
        )


def _catch_up(s: Settings) -> Iterator[Disagreement]:
    oldest, back, give_up = (
        s.catchup.max_age_seconds,
        s.catchup.look_back_seconds,
        s.turn.give_up_after_seconds,
    )
    if back >= s.history.seen_days * _DAY_SECONDS:
        yield Disagreement(
            ("catchup.look_back_seconds", "history.seen_days"),
            f"catchup.look_back_seconds ({back:g}) must be shorter than history.seen_days "
            f"({s.history.seen_days}): messages whose SIDs are forgotten would be answered twice",
        )
    if oldest > back:
        yield Disagreement(
            ("catchup.max_age_seconds", "catchup.look_back_seconds"),
            f"catchup.max_age_seconds ({oldest:g}) must not be longer than "
            f"catchup.look_back_seconds ({back:g}): what is not looked at is not answered",
        )
    if oldest < give_up:
        yield Disagreement(
            ("catchup.max_age_seconds", "turn.give_up_after_seconds"),
            f"catchup.max_age_seconds ({oldest:g}) must not be shorter than "
            f"turn.give_up_after_seconds ({give_up:g}): people get what waits longer than that",
        )
