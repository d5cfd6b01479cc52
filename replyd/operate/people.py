"""`replyd conversation list`, `handoff`, `release`, `reply`: what people do, from a terminal."""

import argparse
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from replyd.domain.messages import ConversationKey
from replyd.flows import show
from replyd.flows.desk import Desk
from replyd.flows.person import People
from replyd.flows.person_answer import Answered, Declined, Request
from replyd.flows.waiting import BadCursorError, listing
from replyd.operate.arguments import count, customer, name, sid

OK = 0
NOTHING_FOUND = 1
USAGE = 2
# EX_TEMPFAIL of sysexits: ask again.
TRY_AGAIN = 75


@dataclass(frozen=True, slots=True)
class Counter:
    """Where people act, and look for what they act on."""

    people: People
    desk: Desk


OpenDesk = Callable[[argparse.Namespace], AbstractAsyncContextManager[Desk]]
OpenCounter = Callable[[argparse.Namespace], AbstractAsyncContextManager[Counter]]


def add_to(parent: Any, add: Any, *, open_desk: OpenDesk, open_counter: OpenCounter) -> None:
    """Add the commands below `conversation`; `add` as `commands.add_to` has it."""
    listed = add(
        parent,
        "list",
        _list,
        open_desk,
        help="conversations, such as those whose customer waits for a person",
        description="A page of the table, in no order; each costs the reading of up to 1,000 "
        "items. Says how to see the next one.",
    )
    listed.add_argument("--waiting", action="store_true", help="only where the customer waits")
    listed.add_argument("--limit", type=count, default=50, metavar="N", help="default 50")
    listed.add_argument("--cursor", default="", help="of the page before")
    handoff = add(
        parent,
        "handoff",
        _handoff,
        open_counter,
        help="take a conversation from the AI",
        description="Sets handoff_to_human: no AI reply starts from now on, and new messages go to "
        "the handoff queue.",
    )
    handoff.add_argument("--reason", default="", metavar="TEXT", help="kept in the record")
    release = add(
        parent,
        "release",
        _release,
        open_counter,
        help="give a conversation back to the AI",
        description="Lowers handoff_to_human: the AI answers what comes next.",
    )
    reply = add(
        parent,
        "reply",
        _reply,
        open_counter,
        help="answer as a person",
        description="Sends the text to the customer, once, and takes the conversation from the AI. "
        "Waits up to 20 s for the AI to end its turn; exit code 75 when it does not.",
    )
    for parser in (handoff, release, reply):
        parser.add_argument("tel", type=customer, metavar="TEL", help="such as +447700900001")
        parser.add_argument(
            "conversation_id",
            nargs="?",
            default="",
            metavar="CONVERSATION",
            help="default: the one that takes new messages, where there is one",
        )
        parser.add_argument("--author", type=name, required=True, metavar="NAME", help="who acts")
    reply.add_argument("--text", required=True, help="what is sent")
    reply.add_argument(
        "--key",
        type=sid,
        metavar="KEY",
        help="of an earlier try: sends nothing that was sent under it (default: a new one, shown)",
    )
    reply.add_argument(
        "--account", default="", metavar="SID", help="Twilio's, where the record does not tell"
    )


async def _list(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
    from replyd.operate import render

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
    from replyd.operate import render

    if not done:
        print("the record is gone", file=sys.stderr)
        return NOTHING_FOUND
    if arguments.json:
        render.show_json({"handoff_to_human": up})
    else:
        print("people have it: the AI is silent" if up else "the AI answers what comes next")
    return OK


async def _reply(arguments: argparse.Namespace, open_counter: OpenCounter) -> int:
    from replyd.operate import render

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
