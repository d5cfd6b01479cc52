"""What the commands for operators print: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replyd.adapters.twilio.failures import delivery_failure
from replyd.domain.explain import span

_SAID_BY = {"word": "the customer's word", "twilio": "Twilio's own handling"}
_STYLES = {"held": "yellow", "due": "yellow", "window_open": "cyan", "idle": "green"}


def show_json(value: object) -> None:
    """ASCII: no control character of a customer reaches the terminal."""
    print(json.dumps(value, indent=2, default=str))


def show_table(table: RenderableType) -> None:
    # A pipe has no width: never cut what somebody greps.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)


def text(value: object, style: str = "") -> Text:
    """Without markup, and without control characters that a terminal would obey."""
    shown = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else "�" for c in shown), style)


def records(customer: str, found: Sequence[Mapping[str, Any]]) -> RenderableType:
    count = "1 record" if len(found) == 1 else f"{len(found)} records"
    return Group(
        text(f"{customer}: {count}"),
        *(Padding(_record(r), (1, 0, 0, 0), expand=False) for r in found),
    )


def conversations(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("customer", "conversation", "status", "with people", "waiting", "last message")
    for row in rows:
        yes = {True: "yes", False: "no"}
        shown = (
            row["recipient_tel"],
            row["conversation_id"],
            row["conversation_status"],
            yes[row["handoff_to_human"]],
            yes[row["waiting"]],
            f"{row['last_message_at'] or ''} {row['last_role'] or ''}",
        )
        table.add_row(*(text(cell) for cell in shown))
    return table


def _record(found: Mapping[str, Any]) -> RenderableType:
    takes = "takes new messages" if found["takes_new_messages"] else "takes no new messages"
    business = found["company_tel"] or "any business number"
    accepted = found["accepted"]
    rows: list[tuple[str, RenderableType]] = [
        ("next", text(found["next"]["text"], _STYLES.get(found["next"]["state"], ""))),
        ("status", text(found["conversation_status"])),
        ("with people", text("yes" if found["handoff_to_human"] else "no")),
    ]
    if found["opted_out_since"]:
        rows.append(("opted out", text(f"since {found['opted_out_since']}")))
    if lease := found["lease"]:
        left = lease["seconds_left"]
        state = f"for another {_span(left)}" if left else "ended"
        rows.append(("lease", text(f"{lease['owner']}, {state}")))
    if outbox := found["outbox"]:
        rows.append(("outbox", _outbox(outbox)))
    if found["attempts"]:
        rows.append(("attempts", text(f"{found['attempts']} of {found['max_attempts']}")))
    if found["next"]["gives_up_at"]:
        rows.append(("gives up", text(f"{found['next']['gives_up_at']}, then people get it")))
    if failure := found["reply_failure"]:
        said = f"{failure.get('reason')}: {failure.get('detail')} ({failure.get('at')})"
        rows.append(("reply_failure", text(said)))
    if found["pending"]:
        rows.append(("pending", _pending(found["pending"])))
    history = found["history"]
    settled = f"{accepted['settled']} of {accepted['messages']} messages settled"
    rows.append(("history", text(f"{history['entries']} entries; {settled}")))
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, "dim"), value)
    title = text(f"{found['conversation_id']} with {business}: {takes}", "bold")
    tail = (
        [Padding(_history(history["tail"]), (0, 0, 0, 2), expand=False)] if history["tail"] else []
    )
    return Group(title, Padding(grid, (0, 0, 0, 2), expand=False), *tail)


def _outbox(outbox: Mapping[str, Any]) -> Text:
    seqs = ", ".join(str(s) for s in outbox["seqs"]) or "none"
    lines = [f"{outbox['kind']}, turn {outbox['turn_id']}, of seq {seqs}, since {outbox['at']}"]
    if outbox["reason"]:
        lines.append(f"reason {outbox['reason']}: {outbox['detail']}")
    for number, part in enumerate(outbox["parts"], 1):
        state = f"accepted as {part['message_id']}" if part["accepted"] else "not known as accepted"
        delivery = f", {part['delivery']}" if part["delivery"] else ""
        lines.append(f"part {number}: {state}{delivery}, {_words(part)}")
    return text("\n".join(lines))


def _pending(pending: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("seq", "SID", "waiting for", "message")
    for entry in pending:
        age = _span(entry["age_seconds"])
        table.add_row(text(entry["seq"]), text(entry["sid"]), text(age), text(_words(entry)))
    return table


def _history(tail: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("time", "role", "SID", "delivery", "turn", "message")
    for entry in tail:
        delivery = " ".join(str(entry[n]) for n in ("delivery", "delivery_error") if entry[n])
        # Enough of the turn to tell it from others, or a terminal could not hold the line.
        turn = str(entry["turn_id"] or "")[:8]
        cells = (entry["timestamp"], entry["role"], entry["message_id"], delivery, turn)
        table.add_row(*(text(cell) for cell in cells), text(_words(entry)))
    return table


def _words(entry: Mapping[str, Any]) -> str:
    if entry.get("text") is not None:
        return str(entry["text"])
    return "no text at hand" if entry["characters"] is None else f"{entry['characters']} characters"


def explanation(found: Mapping[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    rows = [
        (found["state"].replace("_", " "), found["text"]),
        ("conversation", f"{found['conversation_id']} of {found['customer']}"),
        ("turn", found["turn_id"]),
        ("messages", "\n".join(found["merged"])),
        ("replies", "\n".join(_reply(r) for r in found["replies"])),
        ("next", found["next"] and found["next"]["text"]),
    ]
    for name, value in rows:
        if value:
            grid.add_row(Text(name, "dim"), text(value))
    return Group(text(f"{found['sid']} ({found['direction']})", "bold"), grid)


def _reply(reply: Mapping[str, Any]) -> str:
    meaning = delivery_failure(reply["error"])
    error = f", {meaning}" if meaning else ""
    told = ", people know" if reply["people_told"] else ""
    return f"{reply['sid'] or 'SID not known'}: {reply['delivery']}{error}{told}"


def dead_queues(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("of", "dead-letter queue", "messages", "in flight", "oldest", "unreadable")
    for row in rows:
        if row["name"] is None:
            table.add_row(text(row["queue"]), text("none: `replyd check` says what to do", "red"))
            continue
        more = row["visible"] > row["looked_at"]
        of = f" of the first {row['looked_at']}" if more else ""
        oldest = "" if row["oldest_seconds"] is None else _span(row["oldest_seconds"]) + of
        table.add_row(
            *(text(row[n]) for n in ("queue", "name", "visible", "in_flight")),
            text(oldest),
            text(f"{row['unreadable']}{of}"),
        )
    return table


def dead_messages(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not rows:
        return text("nothing is there")
    table = _table("of", "message", "age", "receives", "SID", "customer", "what it is")
    for row in rows:
        what = text(row["why"], "" if row["readable"] else "red")
        if "body" in row:
            what.append("\n").append_text(text(row["body"], "dim"))
        cells = (row["message_id"], _span(row["age_seconds"]), row["receives"], row["sid"])
        shown = [text(cell) for cell in (row["queue"], *cells, row["customer"])]
        table.add_row(*shown, what)
    return table


def consent(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    return Group(*(_ledger(one) for one in found))


def _ledger(found: Mapping[str, Any]) -> RenderableType:
    business = found["company_tel"] or "any business number"
    since = found["opted_out_since"]
    state = "the AI may write" if since is None else f"opted out since {since}"
    title = text(f"{found['conversation_id']} with {business}: {state}", "bold")
    if not found["ledger"]:
        return Group(title, text("  no STOP or START in this record", "dim"))
    table = Table("at", "change", "by", "SID", box=None, pad_edge=False, header_style="dim")
    for entry in found["ledger"]:
        by = _SAID_BY.get(str(entry["by"]), entry["by"])
        cells = (entry["at"], str(entry["change"] or "").upper(), by, entry["sid"])
        table.add_row(*(text(cell) for cell in cells))
    return Group(title, Padding(table, (0, 0, 0, 2), expand=False))


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def _span(seconds: float) -> str:
    return span(round(seconds * 1000))
