"""A conversation item under the real steps, and the states that they can bring it to."""

import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from replyd.adapters.memory.store import holds, perform
from replyd.domain import delivery, steps
from replyd.domain import record as r
from replyd.domain.expressions import Applied, Refused, Step, StepResult
from replyd.domain.record import Conversation, Outbox, conversation_from
from replyd.domain.turn import TurnPolicy
from replyd.domain.window import WindowPolicy
from tests.support.world import BUSINESS, CUSTOMER, KEY, message

NOW = 1_700_000_000_000
WINDOW = WindowPolicy(quiet_ms=5_000, max_wait_ms=12_000, max_messages=4)
POLICY = TurnPolicy()

# What people's tools have been seen to store for "yes" and "no", and what they might.
FLAGS: tuple[Any, ...] = (False, None, True, 0, 1, Decimal(0), "", "true", "false", [], {})

# The differences between two times that can matter, and one more or less.
PAUSES = st.sampled_from(
    [
        0,
        1,
        999,
        1000,
        4999,
        5000,
        5001,
        11999,
        12000,
        12001,
        60000,
        61999,
        62000,
        62001,
        180000,
        180001,
    ]
)


def reply(
    turn_id: str, seqs: tuple[int, ...], sids: tuple[str, ...], kind: str = "reply"
) -> Outbox:
    """An outbox of these messages, with two parts if it is a reply."""
    users = [{"role": "user", "message_id": sid, "turn_id": turn_id} for sid in sids]
    parts = [{"role": "assistant", "content": f"part {n}", "turn_id": turn_id} for n in (1, 2)]
    entries: list[dict[str, Any]] = [*users, *(parts if kind == "reply" else ())]
    return Outbox(turn_id, kind, seqs, tuple(entries), NOW, delivery={})


@dataclass
class Item:
    """One item, changed by steps as a store changes it."""

    attributes: dict[str, Any] | None = field(
        default_factory=lambda: {
            r.RECIPIENT_TEL: CUSTOMER,
            r.CONVERSATION_ID: KEY.sort,
            r.COMPANY_TEL: BUSINESS,
        }
    )

    def apply(self, step: Step) -> StepResult:
        if not holds(step.condition, self.attributes):
            return Refused(copy.deepcopy(self.attributes))
        assert self.attributes is not None
        touched = perform(step.actions, self.attributes)
        shown = {k: v for k, v in self.attributes.items() if k in touched}
        back = {"item": self.attributes, "touched": shown, "nothing": {}}[step.returns]
        return Applied(copy.deepcopy(back))

    def __getitem__(self, name: str) -> Any:
        return (self.attributes or {}).get(name)

    @property
    def pending(self) -> list[dict[str, Any]]:
        return list(self[r.PENDING] or [])

    @property
    def seq(self) -> int:
        return int(self[r.SEQ] or 0)

    @property
    def settled(self) -> int:
        return self.seq - len(self.pending)

    @property
    def token(self) -> str | None:
        lease = self[r.LEASE]
        return None if lease is None else str(lease["token"])

    def conversation(self) -> Conversation:
        return conversation_from(self.attributes or {}, KEY)

    def stage(
        self,
        number: int,
        now: int,
        *,
        first: bool | None = None,
        opt_out: bool = False,
        opt_in: bool = False,
    ) -> StepResult:
        """`first`: what the caller guesses; by default what is right."""
        inbound = message(number)
        first = self[r.SEEN] is None if first is None else first
        entry = steps.pending_entry(inbound, now)
        step = steps.stage(inbound.sid, entry, now, first=first, opt_out=opt_out, opt_in=opt_in)
        return self.apply(step)

    def head(self, turn_id: str, kind: str = "reply") -> Outbox:
        """An outbox for everything that is pending."""
        taken = self.conversation().pending
        return reply(turn_id, tuple(p.seq for p in taken), tuple(p.sid for p in taken), kind)


def claim(token: str, now: int, window: WindowPolicy = WINDOW) -> Step:
    return steps.claim(
        token, "me", now, lease_ms=POLICY.lease_ms, skew_ms=POLICY.skew_ms, window=window
    )


def read(result: StepResult) -> Conversation | None:
    return None if result.item is None else conversation_from(result.item, KEY)


# The long ways to a lease and to an outbox, which single moves would seldom find.
_TO_A_LEASE = ("stage", "wait", "claim")
_TO_AN_OUTBOX = (*_TO_A_LEASE, "handoff")
_ANY = (
    *("stage", "stop", "start", "claim", "renew", "release", "give back", "drop", "reply"),
    *("handoff", "arm", "report", "commit"),
)
_KEEPING_THE_OUTBOX = ("stage", "stop", "start", "claim", "renew", "report", "arm")


def _moves(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([*((name,) for name in names), _TO_A_LEASE, (*_TO_A_LEASE, "reply")])


@st.composite
def situations(draw: st.DrawFn, *, outbox: bool = False) -> tuple[Item, int]:
    """An item in a state that steps can lead to, and the time it is then."""
    item, now, number = Item(), NOW, 0
    way = draw(st.lists(st.tuples(_moves(_ANY), PAUSES), max_size=10))
    if outbox:
        way.append((_TO_AN_OUTBOX, 0))
        way += draw(st.lists(st.tuples(_moves(_KEEPING_THE_OUTBOX), PAUSES), max_size=4))
    for moves, pause in way:
        now += pause
        for move in moves:
            number += 1
            now += POLICY.lease_ms + POLICY.skew_ms + 1 if move == "wait" else 0
            _move(item, move, number, now)
    # People's tools write the flag whenever they like.
    if item.attributes is not None and draw(st.booleans()):
        item.attributes[r.HANDOFF] = draw(st.sampled_from(FLAGS))
    return item, now


def _move(item: Item, move: str, number: int, now: int) -> None:
    if move == "wait":
        return
    if move in ("stage", "stop", "start"):
        item.stage(number, now, opt_out=move == "stop", opt_in=move == "start")
    elif item.conversation().outbox is None or move in ("claim", "reply", "handoff"):
        item.apply(_turn_step(item, move, number, now))
    else:
        item.apply(_effect_step(item, move, number, now))


def _turn_step(item: Item, move: str, number: int, now: int) -> Step:
    token, expires_at = item.token or "nobody", now + POLICY.lease_ms
    match move:
        case "claim":
            return claim(f"token-{number}", now)
        case "reply":
            return steps.intend_reply(
                token, item.head(f"turn-{number}"), expires_at, head="", seq=item.seq
            )
        case "handoff":
            outbox = item.head(f"turn-{number}", "handoff")
            return steps.intend_handoff(token, outbox, expires_at, head="")
        case "release" | "give back" | "drop":
            give_back, drop = move == "give back", move == "drop"
            return steps.release(token, give_back_attempt=give_back, drop_outbox=drop)
    return steps.renew(token, expires_at)


def _effect_step(item: Item, move: str, number: int, now: int) -> Step:
    token, outbox = item.token or "nobody", item.conversation().outbox
    assert outbox is not None
    match move:
        case "arm":
            last, expires_at = len(outbox.entries) - 1, now + POLICY.lease_ms
            return steps.arm(token, outbox.turn_id, last, expires_at)
        case "report":
            report = {"message_id": f"SM{number}", "delivery": "sent"}
            return delivery.report_in_outbox(outbox.turn_id, 1, report)
        case "commit":
            return steps.commit(token, outbox, outbox.entries, now, status="x")
    return _turn_step(item, move, number, now)
