"""systemd's part: it holds sockets, starts `replyd serve` on them, hears what that tells, and
restarts it."""

import asyncio
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.process.town import SECONDS, Process, Town

# The socket is file descriptor 3, and the process knows that it is meant.
ACTIVATED = ("/bin/bash", "-c", 'exec 3<&"$FD"; LISTEN_PID=$$ exec "$@"', "bash")
SERVE = (sys.executable, "-m", "replyd", "serve")
WATCHDOG_SECONDS = 20.0
# TimeoutStopSec=
STOP_SECONDS = 150.0


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, directory: Path, name: str = "notify") -> None:
        self.address = str(directory / name)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    async def hears(self, seconds: float = SECONDS) -> list[str]:
        async with asyncio.timeout(seconds):
            datagram = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
            return datagram.decode().split("\n")

    async def hears_of(self, assignment: str) -> list[str]:
        while assignment not in (heard := await self.hears()):
            continue
        return heard

    def close(self) -> None:
        self._socket.close()


def listening(port: int = 0, *, reuse_port: bool = False) -> socket.socket:
    """What a socket unit holds: it stays open whatever becomes of the service."""
    return socket.create_server(("127.0.0.1", port), backlog=1024, reuse_port=reuse_port)


def free_port() -> int:
    with listening() as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds. `turns`: under way at SIGTERM; `turn`: until the last of these had ended, `drain`:
    until the process had, `seconds`: until its successor was ready."""

    unit: str
    turns: int
    turn: float
    drain: float
    seconds: float

    @property
    def beyond(self) -> float:
        """What the restart took beside the turns that were under way."""
        return self.seconds - self.turn


class Unit:
    """A service, with a socket unit or without: then `environ` has its port."""

    def __init__(
        self,
        town: Town,
        name: str,
        directory: Path,
        environ: dict[str, str],
        held: socket.socket | None = None,
    ) -> None:
        self.name = name
        self._town = town
        self._manager = Manager(directory, name)
        self._environ = environ
        self._held = held
        self._process: Process | None = None
        self._ready = asyncio.Event()
        self._may_take = STOP_SECONDS
        self._hearing: asyncio.Task[None] | None = None
        self.heard: Counter[str] = Counter()

    @property
    def process(self) -> Process:
        assert self._process is not None, "start the unit first"
        return self._process

    async def start(self) -> None:
        """Until it says that it is ready."""
        self._ready.clear()
        self._may_take = STOP_SECONDS
        command: tuple[str, ...] = SERVE
        environ = dict(self._environ)
        if self._held is not None:
            command = (*ACTIVATED, *SERVE)
            environ |= {
                "FD": str(self._held.fileno()),
                "LISTEN_FDS": "1",
                "LISTEN_FDNAMES": "webhooks",
            }
        self._process = await self._town.spawn(
            *command,
            NOTIFY_SOCKET=self._manager.address,
            WATCHDOG_USEC=str(round(WATCHDOG_SECONDS * 1_000_000)),
            **environ,
        )
        if self._hearing is None:
            self._hearing = asyncio.create_task(self._hear())
        async with asyncio.timeout(SECONDS):
            await self._ready.wait()
            # Its log comes another way.
            await self._process.ready.wait()

    async def restart(self) -> Restart:
        """As `systemctl restart`. Raises TimeoutError when it takes longer than it has asked
        for."""
        before, stopped, clock = self.process, time.time(), time.monotonic()
        before.process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await self._town.logged(before, "draining")
        async with asyncio.timeout(self._may_take):
            await before.process.wait()
        drain = time.monotonic() - clock
        await self.start()
        seconds = time.monotonic() - clock
        await before.ended()
        turns = _under_way(before, stopped)
        longest = max((ended - stopped for ended in turns), default=0.0)
        return Restart(self.name, len(turns), longest, drain, seconds)

    async def stop(self) -> None:
        self.process.process.terminate()
        await self.process.ended()

    async def close(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        self._manager.close()

    async def _hear(self) -> None:
        """A process that does not feed its watchdog is killed: SIGABRT leaves where it stood."""
        while True:
            try:
                said = await self._manager.hears(WATCHDOG_SECONDS)
            except TimeoutError:
                if self._ready.is_set() and self.process.process.returncode is None:
                    self.heard["silence"] += 1
                    self.process.process.kill()
                continue
            for assignment in said:
                name, _, value = assignment.partition("=")
                self.heard[name] += 1
                self.heard["stuck"] += assignment.startswith("STATUS=stuck")
                if name == "READY":
                    self._ready.set()
                elif name == "EXTEND_TIMEOUT_USEC":
                    self._may_take = max(self._may_take, int(value) / 1_000_000)


def _under_way(process: Process, stopped: float) -> list[float]:
    """When the turns ended that had begun at that moment, epoch seconds."""
    claimed: dict[str, float] = {}
    ends = []
    for line in process.lines:
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        name = line.get("conversation_id", "")
        if line.get("event") == "turn_claimed":
            claimed[name] = at
        elif line.get("event") == "turn_ended" and claimed.pop(name, stopped) < stopped <= at:
            ends.append(at)
    return ends
