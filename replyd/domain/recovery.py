"""RECOVER: which parts of a reply went out, and what to do about those that did not.

A send without an answer is never repeated blindly: a part counts as accepted when a status
callback named its SID or the vendor's list shows it, and as not accepted when neither does once
the grace has passed.
"""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from replyd.domain import content_template
from replyd.domain.delivery import ACCEPTED, NOT_SENT, UNKNOWN
from replyd.domain.effects import HandOver
from replyd.domain.messages import SentMessage
from replyd.domain.record import Entry, Outbox, Pending
from replyd.domain.turn import AMBIGUOUS, TurnPolicy


def known_sids(outbox: Outbox) -> dict[int, str]:
    """Entry index to SID, as ARM noted it or a callback told."""
    reported = outbox.delivery or {}
    sids = {}
    for index, entry in outbox.parts:
        report = reported.get(str(index))
        told = report.get("message_id") if isinstance(report, Mapping) else None
        if sid := entry.get("message_id") or told:
            sids[index] = str(sid)
    return sids


def listed_since(outbox: Outbox, policy: TurnPolicy) -> int:
    """From when on the vendor's list has to be read, epoch ms: the vendor counts in seconds, and
    its clock is another one."""
    return (outbox.at - policy.skew_ms) // 1000 * 1000


def accepted_parts(
    outbox: Outbox, listed: Sequence[SentMessage], *, since: int, elsewhere: Collection[str]
) -> dict[int, str]:
    """Entry index to SID of every part that was accepted. `elsewhere`: SIDs of other turns.
    Each listed message is one part's, also when two parts have the same text."""
    sids = known_sids(outbox)
    taken = {*sids.values(), *elsewhere}
    left = [m for m in listed if m.sid not in taken and m.at >= since]
    for index, entry in outbox.parts:
        wanted = _normalised(str(entry.get("content", "")))
        # The list shows a template's own words too, which nobody here knows.
        if index in sids or entry.get(content_template.ATTRIBUTE):
            continue
        if (found := next((m for m in left if _normalised(m.text) == wanted), None)) is not None:
            sids[index] = found.sid
            left.remove(found)
    return sids


def is_nobodys(listed: Sequence[SentMessage], *, since: int, known: Collection[str]) -> bool:
    """Whether the list has a message that no turn knows: another tool's, a template's part, or one
    whose text was changed on its way. Then a part that was not found may have been accepted all
    the same."""
    return any(m.at >= since and m.sid not in known for m in listed)


def _normalised(text: str) -> str:
    """What is left of a text when somebody else has stored it: spaces and forms may differ."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Nothing went out: back to INTENT with the same draft and all conditions."""


@dataclass(frozen=True, slots=True)
class Resume:
    """These parts went out (entry index to SID): send the others, if any, each behind ARM."""

    sids: Mapping[int, str]


def after_look(
    outbox: Outbox,
    taken: tuple[Pending, ...],
    sids: Mapping[int, str],
    *,
    certain: bool,
    given_up: HandOver | None,
    policy: TurnPolicy,
) -> SendAgain | Resume | HandOver:
    """`certain`: the list could be read, so that a part without a SID was not accepted.
    `given_up`: why the AI may not try any further, if so."""
    missing = [i for i, _ in outbox.parts if i not in sids]
    if not missing:
        return Resume(sids)
    resend = policy.on_ambiguous == "resend"
    noted = with_sids(outbox, sids)
    if not certain and (given_up or not resend):
        detail = "it cannot be told whether the reply was sent"
        return HandOver(AMBIGUOUS, taken, detail, noted)
    if given_up and not sids:
        return given_up
    if given_up and not resend:
        parts = len(sids) + len(missing)
        detail = f"{len(sids)} of {parts} parts of the reply were sent; {given_up.detail}"
        return HandOver(AMBIGUOUS, taken, detail, without_unsent(noted))
    return Resume(sids) if sids else SendAgain()


def with_sids(outbox: Outbox, sids: Mapping[int, str]) -> Outbox:
    """The outbox with the SIDs of the parts that were accepted (entry index to SID)."""
    return _marked(outbox, {i: {"message_id": s, "delivery": ACCEPTED} for i, s in sids.items()})


def without_unsent(outbox: Outbox) -> Outbox:
    """The outbox whose parts without a SID are marked as never sent: COMMIT leaves them out,
    unless a callback knows better."""
    return _marked(outbox, {i: {"delivery": NOT_SENT} for i in _without_sid(outbox)})


def unknown_delivery(outbox: Outbox) -> Outbox:
    """The outbox with every part that has no SID marked as perhaps sent, but for those known
    not to be."""
    perhaps = [i for i in _without_sid(outbox) if outbox.entries[i].get("delivery") != NOT_SENT]
    return _marked(outbox, {i: {"delivery": UNKNOWN} for i in perhaps})


def _without_sid(outbox: Outbox) -> list[int]:
    return [i for i, e in outbox.parts if not e.get("message_id")]


def _marked(outbox: Outbox, marks: Mapping[int, Mapping[str, str]]) -> Outbox:
    entries = tuple({**e, **marks.get(i, {})} for i, e in enumerate(outbox.entries))
    return replace(outbox, entries=entries)


def history_of(outbox: Outbox) -> tuple[Entry, ...]:
    """What COMMIT writes: the entries with what callbacks have reported for each (by place),
    without parts that never went out."""
    reported = outbox.delivery or {}
    reports = [reported.get(str(i)) for i in range(len(outbox.entries))]
    entries = [
        {**entry, **report} if isinstance(report, Mapping) else entry
        for entry, report in zip(outbox.entries, reports, strict=True)
    ]
    return tuple(e for e in entries if e.get("delivery") != NOT_SENT)
