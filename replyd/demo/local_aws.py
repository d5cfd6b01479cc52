"""SQS and DynamoDB on this machine: ministack as a child process, for the demo and the tests."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import sys
from types import TracebackType

from replyd.errors import ConfigError, DependencyDown

REGION = "us-east-1"
START_SECONDS = 30.0
# Another process can take the port between our choice and ministack's start.
TRIES = 3
_POLL_SECONDS = 0.05
# Ends with whoever holds its standard input, even one that was killed.
_PROGRAM = """
import os, runpy, sys, threading
def follow():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=follow, daemon=True).start()
sys.argv = ["ministack"]
runpy.run_module("ministack", run_name="__main__")
"""
_REQUEST = b"GET /_ministack/health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"


class LocalAws:
    """`async with LocalAws() as aws:` runs one, empty and in memory, on a free loopback port.

    Raises ConfigError when ministack is not installed, DependencyDown when it does not start.
    """

    def __init__(self) -> None:
        self.endpoint_url = ""
        self._process: asyncio.subprocess.Process | None = None

    def environ(self) -> dict[str, str]:
        """What AWS's library needs to use it; the credentials are not checked."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }

    async def __aenter__(self) -> "LocalAws":
        if importlib.util.find_spec("ministack") is None:
            raise ConfigError(
                ["ministack, the local SQS and DynamoDB, is missing: pip install 'replyd[demo]'"]
            )
        for _ in range(TRIES):
            port = _free_port()
            try:
                async with asyncio.timeout(START_SECONDS):
                    if await self._start(port):
                        self.endpoint_url = f"http://127.0.0.1:{port}"
                        return self
            except TimeoutError:
                break
            finally:
                if not self.endpoint_url:
                    await self._kill()
        raise DependencyDown(
            "ministack", "did not start: run `python -m ministack` to see what it says"
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._kill()

    async def _start(self, port: int) -> bool:
        """Whether it answers; false when it ended instead."""
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            env=_environ(port),
            stdin=asyncio.subprocess.PIPE,
            stdout=quiet,
            stderr=quiet,
            # A group of its own: Ctrl-C on the terminal is for replyd, which then ends this one.
            start_new_session=True,
        )
        while self._process.returncode is None:
            if await _answers(port):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    async def _kill(self) -> None:
        process, self._process, self.endpoint_url = self._process, None, ""
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # It keeps nothing on disk, so there is nothing to say goodbye for.
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _environ(port: int) -> dict[str, str]:
    foreign = ("AWS_", "LOCALSTACK_", "MINISTACK_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return inherited | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "sqs,dynamodb",
        "IOT_MTLS_ENABLED": "0",
        "PERSIST_STATE": "0",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(_REQUEST)
        status = await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()
    return b" 200 " in status
