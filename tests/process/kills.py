"""Kill `replyd serve` again and again under load, then see whether the books balance.

    python -m tests.process.kills --kills 50 --seed 1

The seed chooses faults, victims and pauses; what they meet depends on the machine, so a run is
not repeated exactly.
"""

import argparse
import asyncio
import itertools
import logging
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from replyd.demo.local_aws import LocalAws
from tests.process.books import Balance, answer, balance, shown
from tests.process.load import Options, Run
from tests.process.town import API_KEY, BUSINESS, WEBHOOK_URL, open_town
from tests.process.unreliable import Moods, UnreliableAws, UnreliableOpenAI, UnreliableTwilio

# Share of the replies that take more than one message.
_LONG = 0.15


async def run(options: Options, ministack: str, say: Callable[[str], None]) -> Balance:
    """The whole of it. Raises TimeoutError when an instance does not come up."""
    started = time.monotonic()
    moods = Moods(f"{options.seed} moods")
    lengths, calls = random.Random(f"{options.seed} lengths"), itertools.count(1)

    def reply(text: str) -> str:
        return answer(next(calls), text, lengths.choice((2, 3)) if lengths.random() < _LONG else 1)

    twilio = UnreliableTwilio(moods, business=BUSINESS, webhook_url=WEBHOOK_URL)
    openai = UnreliableOpenAI(moods, api_key=API_KEY, replies=reply)
    async with open_town(ministack, UnreliableAws(ministack, moods), twilio, openai) as town:
        job = Run(options, town, moods)
        await job.load(say)
        found, killed = job.evidence, [p for i in job.instances for p in i.killed]
        books = await found.books()
        result = balance(books)
        result.imbalances += [*job.left, *await found.endings(killed), *found.logs(killed)]
        for name in dict.fromkeys(i.conversation for i in result.imbalances if i.conversation):
            for line in shown(books.records[name]):
                say(f"{name}: {line}")
        learnt = found.learnt()
        calls_of_aws = town.proxy.counts.total() - town.proxy.counts["ReceiveMessage"]
        result.counts.update(
            {
                "seconds": round(time.monotonic() - started),
                "customers": options.customers,
                "messages written": len(job.asked),
                "parts whose acceptance no process heard of": sum(
                    line.sid not in learnt for line in twilio.sent
                ),
                "messages in the handoff queue": found.handoffs,
                "wake-ups in the dead-letter queue": len(books.parked),
                "history entries in the archive": sum(
                    r["archived"] for r in books.records.values()
                ),
                "restarts": sum(i.restarts for i in job.instances),
                "AWS requests, without receives": calls_of_aws,
                "log lines": sum(len(p.raw) for p in town.processes),
                "faults": moods.met.total(),
            }
        )
        if options.logs:
            found.keep_logs(Path(options.logs))
        result.counts.update(job.counts)
        result.counts.update({f"fault, {kind}": times for kind, times in moods.met.items()})
    return result


_ORDER = (
    "seconds", "kill", "restarts", "fault", "customers", "messages written", "acknowledged",
    "not acknowledged", "webhooks", "turns", "messages answered", "messages at people",
    "messages in", "questions", "replies", "parts",
)  # fmt: skip


def table(result: Balance) -> Table:
    """The balance, for people."""

    def rank(name: str) -> tuple[int, str]:
        return next((n for n, start in enumerate(_ORDER) if name.startswith(start)), 99), name

    shown_table = Table("", "", title="The balance", show_header=False, box=None)
    for name in sorted(result.counts, key=rank):
        shown_table.add_row(name, str(result.counts[name]))
    return shown_table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.process.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Options()
    add = parser.add_argument
    add("--kills", type=int, default=defaults.kills, help="how many (%(default)s)")
    add("--seed", type=int, default=defaults.seed, help="of all that is chosen (%(default)s)")
    add("--instances", type=int, default=defaults.instances, help="daemons (%(default)s)")
    add("--customers", type=int, default=defaults.customers, help="conversations (%(default)s)")
    add(
        "--every",
        type=float,
        default=defaults.every,
        help="mean seconds between two (%(default)s)",
    )
    add(
        "--settle",
        type=float,
        default=defaults.settle,
        help="seconds in which all must be settled after the last kill (%(default)s)",
    )
    add("--logs", default="", help="directory to write the log of each process to")
    options = Options(**vars(parser.parse_args(arguments)))
    # Nothing of what is printed is to be read as rich's markup.
    console = Console(markup=False, highlight=False, soft_wrap=True)

    async def everything() -> Balance:
        async with LocalAws() as aws:
            return await run(options, aws.endpoint_url, console.print)

    logging.getLogger("aiohttp.server").addFilter(no_lost_clients)
    result = asyncio.run(everything())
    console.print(table(result))
    for imbalance in result.imbalances:
        console.print(f"IMBALANCE: {imbalance}")
    console.print("the books balance" if not result.imbalances else "the books do not balance")
    return 1 if result.imbalances else 0


def no_lost_clients(line: logging.LogRecord) -> bool:
    """Whether to show it: a killed client is no fault of the server's."""
    return not (line.exc_info and isinstance(line.exc_info[1], ConnectionResetError))


if __name__ == "__main__":
    sys.exit(main())
