"""The commands for operators: parse, call, exit code. What they work with, the caller opens."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from replyd.operate.arguments import (
    HANDOFF,
    NOTHING_FOUND,
    OK,
    REPLIES,
    USAGE,
    Commands,
    OpenCounter,
    OpenDesk,
    add_bodies,
    add_consent,
    add_people,
    count,
    customer,
    sid,
)

if TYPE_CHECKING:
    from replyd.operate.dlq import Morgue

OpenMorgue = Callable[[argparse.Namespace], "AbstractAsyncContextManager[Morgue]"]


def add_to(
    commands: Commands,
    *,
    add_settings: Callable[[argparse.ArgumentParser], None],
    open_desk: OpenDesk,
    open_morgue: OpenMorgue,
    open_counter: OpenCounter,
) -> None:
    """Add `conversation`, `explain` and `dlq`, all of whose `run` return an exit code."""

    def add(parent: Commands, name: str, run: Any, opened: Any, **texts: str) -> Any:
        parser = parent.add_parser(name, **texts)
        parser.add_argument("--json", action="store_true", help="for scripts")
        add_settings(parser)
        parser.set_defaults(run=lambda arguments: asyncio.run(run(arguments, opened)))
        return parser

    conversation = commands.add_parser(
        "conversation", help="look at conversations, and act in them"
    ).add_subparsers(required=True, metavar="COMMAND")
    show = add(
        conversation,
        "show",
        _show,
        open_desk,
        help="a customer's records, and what happens next in each",
        description="All records of a customer, newest first: what happens next and why, what "
        "waits, who has it, what was said. Exit code 1 when there is none.",
    )
    show.add_argument("tel", type=customer, metavar="TEL", help="such as +447700900001")
    show.add_argument(
        "--history", type=count, default=10, metavar="N", help="newest entries (default 10)"
    )
    add_bodies(show)

    add_consent(conversation, add, _consent, open_desk)
    add_people(conversation, add, _people, open_desk=open_desk, open_counter=open_counter)

    explain = add(
        commands,
        "explain",
        _explain,
        open_desk,
        help="what became of a message",
        description="Whether a message was answered, in which turn and with which others, given "
        "to people, or waits; for a message of replyd's, what it answered and whether it arrived. "
        "Exit code 1 when no record knows it.",
    )
    explain.add_argument("sid", type=sid, metavar="SID", help="such as SM0123…")
    explain.add_argument(
        "--customer",
        type=customer,
        metavar="TEL",
        help="whose message it is; without it the whole table is read, which costs its read "
        "capacity",
    )

    dlq = commands.add_parser("dlq", help="look after the dead-letter queues").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add(
        dlq,
        "list",
        _list,
        open_morgue,
        help="how many messages are there, and how old",
        description="Counts are SQS's, approximate. Looks at the first messages for a moment.",
    )
    shown = add(
        dlq,
        "show",
        _dead,
        open_morgue,
        help="what is there and why",
        description="Looks at messages and leaves them there; others get them again at once.",
    )
    shown.add_argument("--limit", type=count, default=10, metavar="N", help="default 10")
    add_bodies(shown)
    redrive = add(
        dlq,
        "redrive",
        _redrive,
        open_morgue,
        help="move the messages back to their queues",
        description="Sends each to its queue and deletes it then: none is lost, and one that "
        "comes twice does no harm, as a wake-up whose messages are settled does nothing.",
    )
    purge = add(
        dlq,
        "purge",
        _purge,
        open_morgue,
        help="delete the messages, for good",
        description="Deletes all messages of the dead-letter queues. What was pending stays in its "
        "record; what people should have got, or replyd never staged, is lost.",
    )
    purge.add_argument("--yes", action="store_true", help="really")
    for parser in (shown, redrive, purge):
        parser.add_argument("queue", nargs="?", choices=(REPLIES, HANDOFF), help="default both")


async def _show(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
    from replyd.flows import show
    from replyd.operate import render

    async with open_desk(arguments) as desk:
        found = await show.show(
            desk, arguments.tel, history=arguments.history, bodies=arguments.bodies
        )
    if arguments.json:
        render.show_json({"customer": arguments.tel, "records": found})
    elif found:
        render.show_table(render.records(arguments.tel, found))
    if found:
        return OK
    hint = "" if arguments.tel.startswith("+") else ": a phone number starts with + here"
    print(f"no record of {arguments.tel} in the table{hint}", file=sys.stderr)
    return NOTHING_FOUND


async def _consent(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
    from replyd.operate import consent

    return await consent.run(arguments, open_desk)


async def _people(arguments: argparse.Namespace, opened: OpenDesk | OpenCounter) -> int:
    from replyd.operate import people

    return await people.RUN[arguments.act](arguments, opened)


async def _explain(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
    from replyd.operate import progress, render
    from replyd.operate.explain import explain

    async with open_desk(arguments) as desk:
        if arguments.customer:
            found = await explain(desk, arguments.sid, customer=arguments.customer)
        else:
            with progress.scanning(await desk.table.size()) as scanned:
                found = await explain(desk, arguments.sid, progress=scanned)
    if arguments.json:
        render.show_json(found)
    elif found is not None:
        render.show_table(render.explanation(found))
    if found is not None:
        return OK
    where = "the records of this customer know" if arguments.customer else "no record knows"
    where = where.replace("the records", "none of the records") if arguments.customer else where
    print(
        f"{where} {arguments.sid}: it was never accepted (an unknown sender, or another table), "
        "waits on the queue of another webhook handler, or has no SID in the record because the "
        "answer to its send was lost",
        file=sys.stderr,
    )
    return NOTHING_FOUND


async def _list(arguments: argparse.Namespace, open_morgue: OpenMorgue) -> int:
    from replyd.operate import dlq, render

    async with open_morgue(arguments) as morgue:
        rows = await dlq.listing(morgue)
    if arguments.json:
        render.show_json({"queues": rows})
    else:
        render.show_table(render.dead_queues(rows))
    return OK


async def _dead(arguments: argparse.Namespace, open_morgue: OpenMorgue) -> int:
    from replyd.operate import dlq, render

    async with open_morgue(arguments) as morgue:
        rows = await dlq.show(
            morgue, arguments.queue, limit=arguments.limit, bodies=arguments.bodies
        )
    if arguments.json:
        render.show_json({"messages": rows})
    else:
        render.show_table(render.dead_messages(rows))
    return OK


async def _redrive(arguments: argparse.Namespace, open_morgue: OpenMorgue) -> int:
    from replyd.operate import dlq, progress, render

    moved: dict[str, int] = {}
    async with open_morgue(arguments) as morgue:
        for name, queue in await morgue.named(arguments.queue):
            if queue is not None:
                with progress.moving(queue.name, queue.visible) as told:
                    moved[name] = await dlq.redrive(morgue, queue, told)
    if arguments.json:
        render.show_json({"moved": moved})
    else:
        for name, count in moved.items():
            print(f"{name}: {count} moved back")
    return _some_queue(moved)


async def _purge(arguments: argparse.Namespace, open_morgue: OpenMorgue) -> int:
    from replyd.operate import render

    purged: dict[str, int] = {}
    async with open_morgue(arguments) as morgue:
        for name, queue in await morgue.named(arguments.queue):
            if queue is None:
                continue
            if not arguments.yes:
                print(
                    f"{queue.name} has about {queue.visible} messages: nothing is deleted "
                    "without --yes",
                    file=sys.stderr,
                )
                continue
            await morgue.queues.purge(queue)
            purged[name] = queue.visible
    if not arguments.yes:
        return USAGE
    if arguments.json:
        render.show_json({"purged": purged})
    else:
        for name, count in purged.items():
            print(f"{name}: about {count} deleted, SQS takes up to 60 s for it")
    return _some_queue(purged)


def _some_queue(done: dict[str, int]) -> int:
    if done:
        return OK
    print("no dead-letter queue there: `replyd check` says what to do", file=sys.stderr)
    return NOTHING_FOUND
