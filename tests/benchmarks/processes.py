"""Processes of the bench: started, measured from outside, and ended for sure."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Six Lambda runners that import three SDKs at once take a while on a busy machine.
START_SECONDS = 120.0
END_SECONDS = 15.0
# What a process needs of our own environment; nothing else may change what it does.
_KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def memory_bytes(pid: int) -> int:
    """Private pages: what it takes beyond what processes share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    return 1024 * sum(int(lines[n].split()[0]) for n in ("Private_Clean", "Private_Dirty"))


@dataclass(slots=True)
class Running:
    """A child. `hello`: the first line of JSON it printed that had `port` or `event: ready`."""

    process: asyncio.subprocess.Process
    hello: dict[str, Any] = field(default_factory=dict)
    reader: "asyncio.Task[None] | None" = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    # The end of what it said, for when it fails.
    said: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            text = raw.decode(errors="replace")
            if self.ready.is_set():
                self.said = [*self.said[-20:], text]
                continue
            self.said.append(text)
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and (line.get("event") == "ready" or "port" in line):
                    self.hello = line
                    self.ready.set()

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for what does not hear."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        if self.reader is not None:
            await self.reader


def _settled(on: Iterable[int]) -> tuple[str, ...]:
    """The command before a program's own: its end with ours, should we be killed, and its cores.
    Both become the program, so that it keeps their process."""
    cpus = ",".join(map(str, on or cores()))
    return ("setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", cpus)


async def start(
    arguments: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    speaks_on: str = "stdout",
    on: Iterable[int] = (),
) -> Running:
    """`python -m …`, until it says that it is ready. `on`: the cores it may use."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    streams = {"stdout": asyncio.subprocess.DEVNULL, "stderr": None}
    streams[speaks_on] = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *_settled(on),
        sys.executable,
        "-m",
        *arguments,
        env=kept | dict(environ or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=streams["stdout"],
        stderr=streams["stderr"],
        # Ctrl-C on the terminal is for us, who then end this one.
        start_new_session=True,
    )
    running = Running(process)
    stream = process.stdout if speaks_on == "stdout" else process.stderr
    assert stream is not None
    running.reader = asyncio.create_task(running.read(stream))
    ready, ended = asyncio.create_task(running.ready.wait()), asyncio.create_task(process.wait())
    try:
        async with asyncio.timeout(START_SECONDS):
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
        ended.cancel()
        if not running.ready.is_set():
            await running.end()
    if not running.ready.is_set():
        raise RuntimeError(f"{' '.join(arguments)} did not start:\n{''.join(running.said)}")
    return running
