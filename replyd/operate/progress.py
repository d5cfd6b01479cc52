"""Progress of what takes long, on standard error: a bar on a terminal, nothing for scripts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from replyd.ports import TableSize


@contextmanager
def scanning(size: TableSize) -> Iterator[Callable[[int, float], None]]:
    """Says before what a scan costs, and after what it has cost."""
    megabytes = size.size_bytes / 1_000_000
    print(
        f"reading the whole table, about {size.items} items and {megabytes:.1f} MB, which costs "
        "half a read capacity unit for 4 KB; --customer TEL is faster and cheaper",
        file=sys.stderr,
    )
    items, units = 0, 0.0
    with _bar("items", size.items) as advance:

        def scanned(more: int, cost: float) -> None:
            nonlocal items, units
            items, units = items + more, units + cost
            advance(items)

        yield scanned
    print(f"{items} items read, {units:g} read capacity units", file=sys.stderr)


@contextmanager
def moving(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with _bar(name, total) as advance:
        yield advance


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """One bar for one thing after another: what is being done, how much of it, of how much."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("looking", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        yield tell


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        # Counts are estimates: never more done than there is.
        task = progress.add_task(name, total=total or None)

        def advance(done: int) -> None:
            progress.update(task, completed=done, total=max(done, total))

        yield advance
