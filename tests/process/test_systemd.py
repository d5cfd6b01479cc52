"""What systemd and replyd say to each other, by real processes, and the units themselves."""

import asyncio
import configparser
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from replyd.domain.messages import ConversationKey
from replyd.settings import Server
from tests.process.conftest import CUSTOMER, Process, Town
from tests.process.units import ACTIVATED, SERVE, Manager, listening

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ("replyd.service", "replyd@.service")

WATCHDOG_SECONDS = 0.4
HANG_SECONDS = 1.5
# A handler runs in the loop's thread: while it sleeps, the loop stands still.
HANGS_ON_SIGUSR1 = f"""
import signal, sys, time
from replyd.cli import main
def hang(*_):
    print('{{"event": "hanging"}}', file=sys.stderr, flush=True)
    time.sleep({HANG_SECONDS})
signal.signal(signal.SIGUSR1, hang)
sys.exit(main(["serve"]))
"""


async def _serve_on(town: Town, held: socket.socket, **changes: str) -> Process:
    return await town.serve(
        *ACTIVATED,
        *SERVE,
        FD=str(held.fileno()),
        LISTEN_FDS="1",
        LISTEN_FDNAMES="webhooks",
        REPLYD_WINDOW__QUIET_SECONDS="0.2",
        **changes,
    )


# --- the units -----------------------------------------------------------------------------------


def _unit(name: str) -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    unit.read(UNITS / name)
    return unit


def _analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        # It wants the command to be there; a template is looked at through an instance.
        text = path.read_text("utf-8").replace("/opt/replyd/bin/replyd", "/bin/true")
        (tmp_path / path.name.replace("@", "@9091")).write_text(text, "utf-8")
    answer = _analyze("verify", *map(str, tmp_path.iterdir()))
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_the_service_is_exposed_to_little(name: str) -> None:
    answer = _analyze("security", "--offline=true", "--threshold=15", str(UNITS / name))
    found = re.search(r"exposure level for .*: (\d+\.\d)", answer.stdout)
    assert found is not None, answer.stderr
    assert float(found[1]) <= 1.5
    assert answer.returncode == 0


def test_instances_differ_from_the_one_in_their_command_only() -> None:
    one, instance = ((UNITS / name).read_text("utf-8").splitlines() for name in SERVICES)
    differing = {line for line in set(one) ^ set(instance) if line and not line.startswith("#")}
    assert {line.partition("=")[0] for line in differing} == {"Description", "ExecStart"}


def test_a_drain_has_the_time_it_takes() -> None:
    service = _unit("replyd.service")["Service"]
    assert float(service["TimeoutStopSec"]) >= Server().drain_seconds + 60
    assert "78" in service["RestartPreventExitStatus"].split()


# --- sd_notify and the watchdog ------------------------------------------------------------------


async def test_systemd_hears_of_start_work_hang_and_end(town: Town, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    process = await town.spawn(
        *(sys.executable, "-c", HANGS_ON_SIGUSR1),
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC=str(round(WATCHDOG_SECONDS * 1_000_000)),
    )
    ready, status = await manager.hears()
    assert ready == "READY=1"
    await asyncio.wait_for(process.ready.wait(), 30)
    port = process.webhooks.rpartition(":")[2]
    assert status == f"STATUS=ready on port {port}: 0 turns, 0 conversations held"
    for _ in range(3):
        await manager.hears_of("WATCHDOG=1")

    process.process.send_signal(signal.SIGUSR1)
    await town.logged(process, "hanging")
    longest, loop = 0.0, asyncio.get_running_loop()
    for _ in range(3):
        before = loop.time()
        await manager.hears_of("WATCHDOG=1")
        longest = max(longest, loop.time() - before)
    assert longest > 2 * WATCHDOG_SECONDS

    process.process.send_signal(signal.SIGTERM)
    await manager.hears_of("STOPPING=1")
    assert await process.ended() == 0
    manager.close()


# --- sockets that outlive a process --------------------------------------------------------------


async def test_a_restart_refuses_no_webhook(town: Town) -> None:
    """Neither while turns end, nor while nobody is there."""
    keys = [ConversationKey(f"+4477009{n:05d}", f"c-{n}") for n in range(6)]
    await asyncio.gather(*(town.converse(key) for key in keys))
    town.openai.delay = 1.5
    with listening() as held:
        first = await _serve_on(town, held)
        assert first.webhooks.endswith(f":{held.getsockname()[1]}")
        assert (await town.twilio.receive(keys[0].partition, "hi")).ok
        while not town.openai.requests:
            await asyncio.sleep(0.01)
        first.process.send_signal(signal.SIGTERM)
        await town.logged(first, "draining")
        assert (await town.twilio.receive(keys[1].partition, "hi")).ok
        assert first.process.returncode is None
        assert await first.ended() == 0
        await town.settled(2, keys[0])
        town.openai.delay = 0
        meanwhile = [
            asyncio.create_task(town.twilio.receive(key.partition, "hi")) for key in keys[2:]
        ]
        await _serve_on(town, held)
        assert all([(await each).ok for each in meanwhile])
        for key in keys:
            await town.settled(2, key)
    assert len(town.twilio.sent) == len(keys)


# --- roles and instances -------------------------------------------------------------------------


async def test_a_webhook_and_a_worker_answer_together(town: Town) -> None:
    await town.converse()
    quick = {"REPLYD_WINDOW__QUIET_SECONDS": "0.2"}
    webhook, worker = await asyncio.gather(
        town.serve(
            *(*SERVE, "--role", "webhook", "--set", "server.reuse_port=true"),
            OPENAI_API_KEY="",
            OPENAI_BASE_URL="",
            **quick,
        ),
        town.serve(REPLYD_SERVER__ROLE="worker", **quick),
    )
    assert worker.webhooks == ""
    assert (await worker.get("/readyz"))[0] == 200
    assert (await town.twilio.receive(CUSTOMER, "hi")).status == 200
    await town.settled(2)
    assert len(town.twilio.sent) == 1
    await town.logged(worker, "turn_ended", outcome="replied")
    await town.logged(webhook, "message_accepted")
    await town.logged(webhook, "delivery_reported", status="delivered")
    assert [line for line in webhook.lines if line["event"] == "turn_ended"] == []
    # One of several instances could listen there too.
    with socket.create_server(
        ("127.0.0.1", int(webhook.webhooks.rpartition(":")[2])), reuse_port=True
    ):
        pass
    for process in (webhook, worker):
        process.process.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


# --- secrets -------------------------------------------------------------------------------------


async def test_credentials_are_read_from_files(town: Town, tmp_path: Path) -> None:
    (tmp_path / "twilio_auth_token").write_text(f"{town.twilio.auth_token}\n")
    (tmp_path / "openai_api_key").write_text("sk-secret-key\n")
    references = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "OPENAI_API_KEY": "file:$CREDENTIALS_DIRECTORY/openai_api_key",
        "TWILIO_AUTH_TOKEN": "file:$CREDENTIALS_DIRECTORY/twilio_auth_token",
    }
    code, out, _ = await town.run("check", **references)
    assert code == 0, out
