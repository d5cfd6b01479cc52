"""`replyd demo`: with the page, or in one go without it."""

import asyncio
import json
import threading
import webbrowser
from collections.abc import Sequence

from replyd.demo.backend import Backend
from replyd.demo.journeys import Journeys
from replyd.demo.page_server import PageServer
from replyd.demo.playground import BUSINESS_NAME, PEOPLE, Playground, playground
from replyd.domain.events import Event, MessageDropped, TurnEnded
from replyd.errors import DependencyDown
from replyd.settings import Settings

_SAY_SECONDS = 60.0
# Faster than anybody types, slower than a queue: still one burst.
_BETWEEN_SECONDS = 0.4


async def page(*, port: int, open_browser: bool, yours: Settings | None = None) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit code. `yours`: settings to try."""
    journeys = Journeys()
    async with playground(
        quiet_seconds=4, max_wait_seconds=20, sinks=[journeys], yours=yours
    ) as place:
        backend = Backend(place, journeys)
        server = await _serve_page(backend, port)
        backend.on_change = journeys.on_change = place.twilio.on_change = server.changed
        place.supervisor.stop_on_signals()
        running = asyncio.create_task(place.supervisor.run())
        await _ready(place, running)
        print(f"replyd demo: {server.url}   (Ctrl-C ends it)", flush=True)
        if open_browser:
            # A browser on a terminal keeps its thread until it is closed; that holds up nothing.
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(backend.run())
            await running
            watching.cancel()
        await server.stop()
    return 0


async def say(texts: Sequence[str], *, yours: Settings | None = None) -> int:
    """Says the texts as one customer, prints transcript and record; returns the exit code. `yours`:
    settings to try.

    Raises DependencyDown when no turn has ended within a minute."""
    person = PEOPLE[0]
    waiter = _Waiter()
    async with playground(
        quiet_seconds=1.5, max_wait_seconds=10, sinks=[waiter], yours=yours
    ) as place:
        running = asyncio.create_task(place.supervisor.run())
        await _ready(place, running)
        sids = set()
        for text in texts:
            delivery = await place.twilio.receive(person.address, text, profile_name=person.name)
            sids.add(delivery.sid)
            await asyncio.sleep(_BETWEEN_SECONDS)
        try:
            async with asyncio.timeout(_SAY_SECONDS):
                await waiter.settled(sids)
        except TimeoutError:
            reason = f"no turn ended within {_SAY_SECONDS:.0f} s"
            raise DependencyDown("demo", reason) from None
        await place.twilio.settle()
        item = await place.store.read(person.key)
        place.supervisor.stop()
        await running
    for line in place.twilio.conversation(person.address):
        who = person.name if line.direction == "in" else BUSINESS_NAME
        print(f"{who}: {line.text}")
    print("\nThe record:")
    print(json.dumps(item, indent=2, ensure_ascii=False, default=str))
    return 0


async def _serve_page(backend: Backend, port: int) -> PageServer:
    """On this port, or on any free one when it is taken."""
    server = PageServer(backend, port=port)
    try:
        await server.start()
    except OSError:
        server = PageServer(backend)
        await server.start()
    return server


async def _ready(place: Playground, running: "asyncio.Task[None]") -> None:
    """Once webhooks are served; raises what ended the process instead."""
    ready = asyncio.create_task(place.supervisor.ready.wait())
    await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if running.done():
        await running
    place.twilio.deliver_to = f"http://127.0.0.1:{place.supervisor.webhooks.port}"


class _Waiter:
    """A telemetry sink that knows which messages have come to an end."""

    def __init__(self) -> None:
        self._ended: set[str] = set()
        self._changed = asyncio.Event()

    def emit(self, event: Event) -> None:
        if isinstance(event, MessageDropped):
            self._ended.add(event.sid)
        elif isinstance(event, TurnEnded) and event.outcome not in ("retry", "lease_lost"):
            self._ended.update(event.sids)
        self._changed.set()

    async def settled(self, sids: set[str]) -> None:
        while not sids <= self._ended:
            self._changed.clear()
            await self._changed.wait()
