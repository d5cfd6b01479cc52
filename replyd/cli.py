"""Commands: parse, call, exit code (sysexits).

A command imports what it needs when it is run. What is imported above is for all of them.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from replyd import __version__
from replyd.bootstrap import commands as bootstrap
from replyd.errors import ConfigError, ReplydError
from replyd.operate import commands as operate
from replyd.operate.arguments import (
    add_check,
    add_demo,
    add_forget,
    add_init,
    add_settings,
    add_simulate,
    add_twilio,
)
from replyd.runtime import collector

if TYPE_CHECKING:
    from replyd.provision import Report

OK = 0
UNAVAILABLE = 69
BUG = 70
CONFIGURATION = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `replyd` command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return CONFIGURATION
    except ReplydError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        return OK
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="replyd",
        description="Answers WhatsApp replies: Twilio webhooks in, one good AI answer out.",
        epilog="Exit codes: 0 done, 1 nothing found, 2 wrong usage, 69 a dependency is "
        "unavailable, 70 a bug, 78 a setting is missing or wrong.",
    )
    parser.add_argument("--version", action="version", version=f"replyd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve", help="take webhooks and answer them", description="Run until SIGTERM, then drain."
    )
    serve.add_argument(
        "--role",
        choices=("all", "webhook", "worker"),
        help="take webhooks, run turns, or both: the setting server.role (default all)",
    )
    add_settings(serve)
    serve.set_defaults(run=_serve)

    add_demo(commands, _demo)
    add_simulate(commands, _simulate)

    add_init(commands, _init)
    add_check(commands, _check)

    healthcheck = commands.add_parser(
        "healthcheck",
        help="ask a running replyd whether it is alive",
        description="Asks /livez on the operations port; for containers.",
    )
    add_settings(healthcheck)
    healthcheck.set_defaults(run=_healthcheck)

    add_twilio(commands, _twilio)
    add_forget(commands, _forget)
    operate.add_to(
        commands,
        add_settings=add_settings,
        open_desk=bootstrap.desk,
        open_morgue=bootstrap.morgue,
        open_counter=bootstrap.counter,
    )
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    with collector.resting():
        _load_structlog()
        return _served(arguments)


def _load_structlog() -> None:
    """Without rich, which it loads where it finds it: a twentieth of the way to ready, for
    tracebacks that `telemetry.logs` does not want."""
    modules: dict[str, Any] = sys.modules
    # None is what Python takes for not installed.
    hidden = modules.setdefault("rich", None) is None
    try:
        import_module("structlog")
    finally:
        if hidden:
            del modules["rich"]


def _served(arguments: argparse.Namespace) -> int:
    if arguments.role:
        arguments.set.append(("server.role", arguments.role))
    settings = bootstrap.read_settings(arguments)
    from replyd.bootstrap.process import supervisor as composed
    from replyd.runtime.systemd import ServiceManager
    from replyd.telemetry import logs

    manager = ServiceManager.from_environment(os.environ)
    log = settings.logging
    logs.configure(log.level, log.format, bodies=log.bodies)

    async def serve() -> None:
        async with composed(
            settings, manager=manager, loaded=collector.keep_what_is_loaded
        ) as supervisor:
            supervisor.stop_on_signals()
            await supervisor.run()

    try:
        asyncio.run(serve())
    except OSError as error:
        print(f"cannot listen: {error.strerror or error}", file=sys.stderr)
        return UNAVAILABLE
    except ExceptionGroup:
        logs.bug()
        return BUG
    return OK


def _demo(arguments: argparse.Namespace) -> int:
    # Only this command needs what the `demo` extra installs.
    from replyd.demo import run
    from replyd.telemetry import logs

    logs.configure("WARNING", "auto")
    yours = bootstrap.read_settings(arguments, require_serving=False) if arguments.config else None
    if arguments.say:
        return asyncio.run(run.say(arguments.say, yours=yours))
    page = run.page(port=arguments.port, open_browser=not arguments.no_browser, yours=yours)
    return asyncio.run(page)


def _simulate(arguments: argparse.Namespace) -> int:
    from replyd.simulation import command

    if arguments.timeline:
        return command.timeline(seed=arguments.seed, workers=arguments.workers)
    return command.simulate(
        seed=arguments.seed,
        seeds=arguments.seeds,
        workers=arguments.workers,
        jobs=arguments.jobs,
    )


def _init(arguments: argparse.Namespace) -> int:
    from replyd import provision
    from replyd.adapters.provisioning import open_provisioning

    settings = bootstrap.read_settings(arguments, require_serving=False)
    names = provision.Names.with_prefix(arguments.prefix, table=arguments.table)

    async def init() -> "Report":
        async with open_provisioning(settings.aws.region or None) as aws:
            return await provision.init(aws, settings.conversations, names)

    report = asyncio.run(init())
    _print(provision.render_report(report))
    print(f"\nPut this into the configuration file:\n\n{report.toml}")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    from replyd import provision
    from replyd.bootstrap.tools import toolbox
    from replyd.settings import load_offline

    try:
        if arguments.offline:
            found = load_offline(arguments.config, os.environ, dict(arguments.set))
            tools = partial(toolbox, found.settings)
            results = asyncio.run(provision.check_offline(found, open_tools=tools))
        else:
            settings = bootstrap.read_settings(arguments)
            results = asyncio.run(bootstrap.checks(settings, assistants=arguments.assistants))
    except ConfigError as error:
        results = [provision.settings_result(error.problems)]
    if arguments.json:
        print(provision.as_json(results))
    else:
        _print(provision.render(results))
    return provision.exit_code(results)


def _healthcheck(arguments: argparse.Namespace) -> int:
    from replyd.operate.healthcheck import is_alive

    ops = bootstrap.read_settings(arguments, require_serving=False).ops
    return OK if is_alive(ops.host, ops.port) else UNAVAILABLE


def _twilio(arguments: argparse.Namespace) -> int:
    from replyd.operate import twilio

    return twilio.run(arguments, bootstrap.twilio_side)


def _forget(arguments: argparse.Namespace) -> int:
    from replyd.operate import forget

    return forget.run(arguments, bootstrap.reach)


def _print(table: object) -> None:
    from rich.console import Console

    # A pipe has no width: never cut what a script reads.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
