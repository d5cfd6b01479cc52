"""`replyd serve` with a watch on its loop: `python -m tests.benchmarks.parties.watched serve`.

A task wakes up every 10 ms and notes how late it was. At the end that is in BENCH_LAG_FILE, as
JSON: pairs of CLOCK_MONOTONIC, which all processes of a machine share, and seconds late.
"""

import asyncio
import json
import os
import sys
import time
from array import array
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from replyd import cli

_EVERY_SECONDS = 0.01
# For an hour: the watch takes no more memory while it watches, for that is measured beside it.
_KEPT = 360_000


class Watch:
    """The newest measurements."""

    def __init__(self) -> None:
        self._at, self._late = array("d", [0.0]) * _KEPT, array("d", [0.0]) * _KEPT
        self._count = 0

    async def run(self) -> None:
        while True:
            due = time.monotonic() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            now = time.monotonic()
            place = self._count % _KEPT
            self._at[place], self._late[place] = now, max(0.0, now - due)
            self._count += 1

    def write(self, path: Path) -> None:
        count = min(self._count, _KEPT)
        pairs = sorted(zip(self._at[:count], self._late[:count], strict=True))
        path.write_text(json.dumps(pairs))


async def _watched(coro: Coroutine[Any, Any, Any]) -> Any:
    watch = Watch()
    watching = asyncio.create_task(watch.run())
    try:
        return await coro
    finally:
        watching.cancel()
        watch.write(Path(os.environ["BENCH_LAG_FILE"]))


def main() -> int:
    run = asyncio.Runner.run

    def watched(runner: asyncio.Runner, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        return run(runner, _watched(coro), **options)

    # asyncio.run and uvloop.run both come by here, and nowhere else: any loop is watched.
    asyncio.Runner.run = watched  # type: ignore[method-assign, assignment] # on purpose
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
