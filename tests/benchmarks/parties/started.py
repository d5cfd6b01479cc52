"""The parties as the bench sees them: started, with a table and queues of their own."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import processes, town
from tests.benchmarks.connections import Connections
from tests.benchmarks.processes import Running
from tests.benchmarks.stage import Resources, Stage
from tests.support.cpu import process_seconds

FLOOR, TWO_LAMBDA, REPLYD = "floor", "two_lambda", "replyd"
# The two-Lambda way to the letter of its design, with the Assistants API.
ASSISTANTS = "two_lambda_assistants"
# Requests and nothing else.
EXCHANGE = "exchange"
PARTIES = (FLOOR, TWO_LAMBDA, REPLYD)
QUIET_SECONDS = 2

# Nothing that would be reached at the load of the bench, where the defaults are for less.
_REPLYD = {
    "REPLYD_SERVER__HOST": "127.0.0.1",
    "REPLYD_SERVER__PORT": "0",
    "REPLYD_SERVER__PUBLIC_URL": town.PUBLIC_URL,
    "REPLYD_OPS__PORT": "0",
}


@dataclass(frozen=True, slots=True)
class Options:
    """`quiet_seconds`: the window, or the delay that stands for it; `on`: the cores of the party;
    `beside`: those of the gateway before the functions, which is not measured; `replyd`: further
    settings; `reply_runners`: warm instances of the reply function, one for each turn at once;
    `conversations`: in the table; `lag_file`: where replyd's loop writes how late it was."""

    quiet_seconds: int = QUIET_SECONDS
    on: tuple[int, ...] = ()
    beside: tuple[int, ...] = ()
    replyd: Mapping[str, str] = field(default_factory=dict)
    webhook_runners: int = 2
    reply_runners: int = 4
    conversations: int = 20_000
    lag_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Party:
    """`pids`: what its CPU time is the sum of. `ops_port`: 0 for none."""

    name: str
    running: Running
    pids: tuple[int, ...]
    resources: Resources
    webhooks: Connections
    ops_port: int = 0

    def cpu_seconds(self) -> float:
        return sum(process_seconds(pid) for pid in self.pids)

    def memory_bytes(self) -> int:
        return sum(processes.memory_bytes(pid) for pid in self.pids)


def replyd_environ(stage: Stage, resources: Resources, options: Options) -> dict[str, str]:
    """The environment of a `replyd serve`."""
    mine = {
        "REPLYD_TWILIO__BASE_URL": stage.vendors_url,
        "REPLYD_QUEUES__REPLIES_URL": resources.replies_url,
        "REPLYD_QUEUES__HANDOFF_URL": resources.handoff_url,
        "REPLYD_CONVERSATIONS__TABLE": resources.table,
        "REPLYD_WINDOW__QUIET_SECONDS": str(options.quiet_seconds),
        "REPLYD_WINDOW__MAX_WAIT_SECONDS": str(max(30, options.quiet_seconds)),
    }
    common = {k: v for k, v in stage.environ(resources).items() if not k.startswith("BENCH_")}
    return common | _REPLYD | mine | dict(options.replyd)


async def _started(name: str, stage: Stage, mine: Resources, options: Options) -> Running:
    if name == REPLYD:
        command, environ = ["replyd", "serve"], replyd_environ(stage, mine, options)
        if options.lag_file is not None:
            command[0] = "tests.benchmarks.parties.watched"
            environ["BENCH_LAG_FILE"] = str(options.lag_file)
        return await processes.start(command, environ, speaks_on="stderr", on=options.on)
    environ = stage.environ(mine) | {"BENCH_QUIET_SECONDS": str(options.quiet_seconds)}
    if name in (FLOOR, EXCHANGE):
        return await processes.start([f"tests.benchmarks.parties.{name}"], environ, on=options.on)
    environ |= {
        "BENCH_WEBHOOK_RUNNERS": str(options.webhook_runners),
        "BENCH_REPLY_RUNNERS": str(options.reply_runners),
        "BENCH_OPENAI_API": "assistants" if name == ASSISTANTS else "responses",
        "BENCH_FUNCTION_CORES": json.dumps(options.on or processes.cores()),
        "BENCH_GATEWAY_CORES": json.dumps(options.beside or processes.cores()),
    }
    return await processes.start(["tests.benchmarks.parties.two_lambda.gateway"], environ)


@asynccontextmanager
async def opened(
    name: str,
    stage: Stage,
    options: Options = Options(),
    resources: Resources | None = None,
) -> AsyncIterator[Party]:
    """One of PARTIES, ASSISTANTS, or EXCHANGE. `resources`: those of another instance, which it
    shares."""
    async with AsyncExitStack() as stack:
        mine = resources or await stage.provide(name, options.conversations)
        running = await _started(name, stage, mine, options)
        stack.push_async_callback(running.end)
        webhooks = Connections(running.hello["port"])
        stack.callback(webhooks.close)
        pids = tuple(running.hello.get("pids", [running.pid]))
        yield Party(name, running, pids, mine, webhooks, running.hello.get("ops_port", 0))
