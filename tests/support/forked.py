"""Processes of `replyd` that have nothing left to import: forked from one that has done it.

Importing takes seconds of a processor, for which a hundred tests need not pay each. What is forked
has imported the package and has run nothing of it; it is as much a process as any other, and can be
killed. That the command itself starts is for the tests that name it: see Town.spawn."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.reduction import DupFd
from typing import Any

_POLL_SECONDS = 0.01
# With what `replyd.cli` imports only for some commands, and what `serve` loads once it is ready.
_PRELOAD = [
    "replyd.cli",
    "replyd.bootstrap.process",
    "replyd.bootstrap.openai",
    "replyd.domain.formatting.blocks",
    "tests.support.forked",
]


class _Descriptor:
    """Of a file that is handed to the process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (DupFd(self.fd),)


def _open(handed: Any) -> _Descriptor:
    return _Descriptor(handed.detach())


def _run(
    arguments: Sequence[str], environ: Mapping[str, str], files: Mapping[int, _Descriptor]
) -> None:
    """In the process: what `python -m replyd ARGUMENTS` does once it has imported itself."""
    os.environ.clear()
    os.environ.update(environ)
    for fd, file in files.items():
        os.dup2(file.fd, fd)
        os.close(file.fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from replyd.cli import main  # noqa: PLC0415 - the test that starts this one does without

    sys.argv = ["replyd", *arguments]
    code = main()
    # A reader who has gone is `main`'s to notice, and not for what ends this process.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.exit(code)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


class Forked:
    """As much of asyncio.subprocess.Process as tests use."""

    def __init__(
        self,
        process: ForkServerProcess,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader,
    ) -> None:
        self._process = process
        self.stdout = stdout
        self.stderr = stderr

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        while (code := self.returncode) is None:
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def communicate(self) -> tuple[bytes, bytes]:
        assert self.stdout is not None
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err


async def start(*arguments: str, environ: Mapping[str, str], stdout: bool = False) -> Forked:
    """`replyd ARGUMENTS` with this environment. Without `stdout` it has this process's."""
    with contextlib.ExitStack() as ours:
        files: dict[int, _Descriptor] = {}
        readers: dict[int, asyncio.StreamReader] = {}
        loop = asyncio.get_running_loop()
        for fd in (1, 2) if stdout else (2,):
            reading, writing = os.pipe()
            ours.callback(os.close, writing)
            files[fd] = _Descriptor(writing)
            readers[fd] = asyncio.StreamReader()
            # Closed by what reads it, at its end.
            file = os.fdopen(reading, "rb", buffering=0)
            await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, readers[fd]), file)
        process = _context().Process(target=_run, args=(arguments, dict(environ), files))
        process.start()
    return Forked(process, readers.get(1), readers[2])
