"""A start: ready before what takes long to load is, and nobody needs yet."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

# Nobody is reached, and none has to be to be ready.
ENVIRONMENT = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "OPENAI_API_KEY": "sk-own",
    "REPLYD_TWILIO__ACCOUNTS": json.dumps({f"AC{0:032}": ["token"]}),
    "REPLYD_SERVER__PUBLIC_URL": "https://hooks.example.com",
    "REPLYD_SERVER__HOST": "127.0.0.1",
    "REPLYD_SERVER__PORT": "0",
    "REPLYD_OPS__PORT": "0",
    "REPLYD_CONVERSATIONS__TABLE": "conversations",
    "REPLYD_QUEUES__REPLIES_URL": "http://127.0.0.1:9/000000000000/replies",
    "REPLYD_QUEUES__HANDOFF_URL": "http://127.0.0.1:9/000000000000/handoff",
    "REPLYD_LOGGING__FORMAT": "json",
}
BROKEN = """
import sys
print("imported", *sys.modules, file=sys.stderr, flush=True)
raise ImportError("half an installation")
"""
# For answers, for settings that are off by default, and for other commands.
NOT_YET = {
    "markdown_it",
    "opentelemetry",
    "replyd.adapters.tools.http",
    "replyd.demo",
    "replyd.flows.forget",
    "replyd.operate.people",
    "replyd.operate.render",
    "replyd.provision",
    "replyd.settings.descriptions",
    "rich",
}
# In the place of the SDK, and half a second later the SDK itself.
SLOW = """
import importlib, sys, time
print("loading", file=sys.stderr, flush=True)
time.sleep(0.5)
del sys.modules["openai"]
sys.path.remove({!r})
importlib.import_module("openai")
"""


async def serve(directory: Path, sdk: str) -> asyncio.subprocess.Process:
    """`sdk`: what is imported as OpenAI's."""
    (directory / "openai.py").write_text(sdk)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "replyd", "serve"),
        stderr=asyncio.subprocess.PIPE,
        env=kept | ENVIRONMENT,
        # Where Python looks first.
        cwd=directory,
    )


def read(line: bytes) -> str:
    """The name of a log line's event."""
    return str(json.loads(line)["event"]) if line.startswith(b"{") else line.decode().strip()


async def test_an_sdk_that_cannot_be_loaded_ends_a_process_that_was_ready(
    tmp_path: Path,
) -> None:
    process = await serve(tmp_path, BROKEN)
    _, err = await process.communicate()
    assert process.returncode == 70
    events = [read(line) for line in err.splitlines()]
    assert [e for e in events if e in ("ready", "bug")] == ["ready", "bug"]
    assert b"half an installation" in err
    [imported] = [
        line.decode().split() for line in err.splitlines() if line.startswith(b"imported")
    ]
    assert "replyd.runtime.webhook_server" in imported
    assert NOT_YET.isdisjoint(imported)


async def test_a_stop_while_the_sdk_is_loaded_ends_well(tmp_path: Path) -> None:
    process = await serve(tmp_path, SLOW.format(str(tmp_path)))
    assert process.stderr is not None
    events: list[str] = []
    while {"ready", "loading"} - set(events):
        events.append(read(await process.stderr.readline()))
    assert events.index("ready") < events.index("loading")
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 0
    events = [read(line) for line in err.splitlines()]
    assert events[-1] == "drained"
    assert "bug" not in events
