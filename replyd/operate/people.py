"""`replyd conversation list`, `handoff`, `release`, `reply`: what people do, from a terminal."""

import argparse
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replyd.domain.messages import ConversationKey
from replyd.flows import show
from replyd.flows.desk import Desk
from replyd.flows.person import People
from replyd.flows.person_answer import Answered, Declined, Request
from replyd.flows.waiting import BadCursorError, listing
from replyd.operate import render
from replyd.operate.arguments import NOTHING_FOUND, OK, USAGE, OpenCounter, OpenDesk

# EX_TEMPFAIL of sysexits: ask again.
TRY_AGAIN = 75


@dataclass(frozen=True, slots=True)
class Counter:
    """Where people act, and look for what they act on."""

    people: People
    desk: Desk


async def _list(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
    async with open_desk(arguments) as desk:
        try:
            page = await listing(
                desk,
                waiting=arguments.waiting,
                limit=max(1, arguments.limit),
                cursor=arguments.cursor,
            )
        except BadCursorError:
            print("--cursor is not one that was shown before", file=sys.stderr)
            return USAGE
    if arguments.json:
        found = {"conversations": page.conversations, "next_cursor": page.cursor or None}
        render.show_json({**found, "more": bool(page.cursor), "items_read": page.read})
    elif page.conversations:
        render.show_table(render.conversations(page.conversations))
    if page.cursor:
        print(f"{page.read} items read; there is more: --cursor {page.cursor}", file=sys.stderr)
    return OK if page.conversations or page.cursor else NOTHING_FOUND


async def _handoff(arguments: argparse.Namespace, open_counter: OpenCounter) -> int:
    async with open_counter(arguments) as counter:
        if (key := await _key(counter.desk, arguments)) is None:
            return NOTHING_FOUND
        done = await counter.people.hand_off(key, author=arguments.author, reason=arguments.reason)
    return _flagged(arguments, done, up=True)


async def _release(arguments: argparse.Namespace, open_counter: OpenCounter) -> int:
    async with open_counter(arguments) as counter:
        if (key := await _key(counter.desk, arguments)) is None:
            return NOTHING_FOUND
        done = await counter.people.release(key, author=arguments.author)
    return _flagged(arguments, done, up=False)


def _flagged(arguments: argparse.Namespace, done: bool, *, up: bool) -> int:
    if not done:
        print("the record is gone", file=sys.stderr)
        return NOTHING_FOUND
    if arguments.json:
        render.show_json({"handoff_to_human": up})
    else:
        print("people have it: the AI is silent" if up else "the AI answers what comes next")
    return OK


async def _reply(arguments: argparse.Namespace, open_counter: OpenCounter) -> int:
    key_of_request = arguments.key or uuid.uuid4().hex
    request = Request(arguments.text, arguments.author, key_of_request, arguments.account)
    if not request.parts:
        print("there is nothing to send", file=sys.stderr)
        return USAGE
    async with open_counter(arguments) as counter:
        if (key := await _key(counter.desk, arguments)) is None:
            return NOTHING_FOUND
        # Before anything is sent, so that whoever is cut off can ask what became of it.
        print(f"--key {key_of_request}", file=sys.stderr)
        answer = await counter.people.reply(key, request)
    if isinstance(answer, Declined):
        print(answer.text, file=sys.stderr)
        if arguments.json:
            render.show_json({"error": {"code": answer.reason, "vendor_code": answer.code}})
        return TRY_AGAIN if answer.reason in ("busy", "try_again") else NOTHING_FOUND
    if arguments.json:
        render.show_json(_as_json(answer))
    else:
        print(_said(answer))
    return OK


def _as_json(answer: Answered) -> dict[str, Any]:
    return {
        "turn_id": answer.turn_id,
        "delivery": answer.delivery,
        "again": answer.again,
        "why": answer.why or None,
        "parts": [
            {"message_id": p.sid or None, "delivery": p.delivery, "delivery_error": p.error or None}
            for p in answer.parts
        ],
    }


def _said(answer: Answered) -> str:
    before = "an earlier try has sent this: " if answer.again else ""
    because = f" ({answer.why})" if answer.why else ""
    words = {
        "accepted": "sent",
        "partly_sent": "sent in part",
        "not_delivered": "sent, and not delivered",
        "unknown": "it may have been sent: do not send it again, look with the same --key",
    }
    sids = " ".join(p.sid for p in answer.parts if p.sid)
    return f"{before}{words[answer.delivery]}{because} {sids}; people have the conversation"


RUN: Mapping[str, Callable[[argparse.Namespace, Any], Awaitable[int]]] = {
    "list": _list,
    "handoff": _handoff,
    "release": _release,
    "reply": _reply,
}


async def _key(desk: Desk, arguments: argparse.Namespace) -> ConversationKey | None:
    wanted = arguments.conversation_id
    candidates = await show.lookup(desk, arguments.tel)
    if wanted:
        found = [c.key for c in candidates if c.conversation_id == wanted]
    else:
        found = sorted(show.taking(candidates), key=lambda key: (key.partition, key.sort))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(c.conversation_id for c in candidates if c.key in found)
        print(f"several records take new messages: name one of {names}", file=sys.stderr)
    else:
        print(f"no such record of {arguments.tel} in the table", file=sys.stderr)
    return None
