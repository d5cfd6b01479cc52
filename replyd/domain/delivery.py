"""What becomes of a part after the channel has taken it: the steps of STATUS CALLBACK.

Each is ONE conditional update of the conversation item, by anybody, whoever holds the lease.
"""

from collections.abc import Mapping
from typing import Any

from replyd.domain import record as r
from replyd.domain.expressions import (
    Action,
    All,
    AnyOf,
    Compare,
    Condition,
    Exists,
    Missing,
    Path,
    Set,
    Step,
)
from replyd.domain.steps import is_about

# What is known of a part before any callback.
NOT_SENT = "not_sent"
UNKNOWN = "unknown"
ACCEPTED = "accepted"
# A state may be replaced by a later one, never by an earlier one; callbacks come in any order.
_STATES = (ACCEPTED, "queued", "sending", "sent", "delivered", "read")
# They end every order. Of the two the first one stands, so that a part fails once.
NOT_DELIVERED = frozenset(("undelivered", "failed"))
# In an entry that was not delivered: the body about it is on people's queue.
PEOPLE_TOLD = "people_told"


def _before(status: str) -> tuple[str, ...]:
    if status in NOT_DELIVERED:
        rank = len(_STATES)
    else:
        rank = _STATES.index(status) if status in _STATES else 0
    return (UNKNOWN, NOT_SENT, *_STATES[:rank])


def replaces(status: str, entry: Mapping[str, Any]) -> bool:
    """Whether a report of `status` is news for an entry, as the steps below see it."""
    return "delivery" not in entry or entry["delivery"] in _before(status)


def _earlier_than(path: Path, status: str) -> Condition:
    """No state yet, or one before `status`."""
    earlier = [Compare(path, "=", state) for state in _before(status)]
    return AnyOf((Missing(path), *earlier))


def report_in_outbox(turn_id: str, entry: int, report: Mapping[str, Any]) -> Step:
    """What a callback says of a part whose turn is not committed yet; COMMIT carries it over."""
    place: Path = (r.OUTBOX, "delivery", str(entry))
    condition = All(
        (
            is_about(turn_id),
            Exists((r.OUTBOX, "delivery")),
            _earlier_than((*place, "delivery"), str(report["delivery"])),
        )
    )
    return _report("report_in_outbox", condition, (Set(place, dict(report)),), report)


def report_in_history(
    index: int, sid: str, report: Mapping[str, Any], *, turn_id: str = ""
) -> Step:
    """What a callback says of a message in the history: the one with this SID, or a part of this
    turn whose SID was never learnt."""
    place: Path = (r.MESSAGES, index)
    unlearnt = All((Missing((*place, "message_id")), Compare((*place, "turn_id"), "=", turn_id)))
    condition = All(
        (
            AnyOf((Compare((*place, "message_id"), "=", sid), unlearnt)),
            _earlier_than((*place, "delivery"), str(report["delivery"])),
        )
    )
    actions = tuple(Set((*place, name), value) for name, value in report.items())
    return _report("report_in_history", condition, actions, report)


def _report(
    name: str, condition: Condition, actions: tuple[Action, ...], report: Mapping[str, Any]
) -> Step:
    """A failure brings the item along: what people get is made from it."""
    failed = report["delivery"] in NOT_DELIVERED
    return Step(name, condition, actions, returns="item" if failed else "nothing")


def people_told_in_outbox(turn_id: str, entry: int, sid: str) -> Step:
    """People know of the failure of this part, whose turn is not committed yet."""
    place: Path = (r.OUTBOX, "delivery", str(entry))
    condition = All(
        (
            is_about(turn_id),
            Compare((*place, "message_id"), "=", sid),
        )
    )
    return Step("people_told_in_outbox", condition, (Set((*place, PEOPLE_TOLD), True),))


def people_told_in_history(index: int, sid: str) -> Step:
    """People know of the failure of this message in the history."""
    place: Path = (r.MESSAGES, index)
    condition = Compare((*place, "message_id"), "=", sid)
    return Step("people_told_in_history", condition, (Set((*place, PEOPLE_TOLD), True),))
