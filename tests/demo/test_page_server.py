"""The page's server over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from replyd.demo import page_server, samples
from replyd.demo.operator_client import Refused
from replyd.demo.page_server import PageServer


class Backend:
    """Knows one customer and one conversation and remembers what it was told."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"now": 1}
        self.snapshots = 0
        self.said: list[tuple[str, str, str]] = []
        self.handed: list[tuple[str, bool]] = []
        self.answered: list[tuple[str, str, str]] = []
        self.refuses: Refused | None = None

    def snapshot(self) -> dict[str, Any]:
        self.snapshots += 1
        return self.state

    async def customer_says(self, address: str, text: str, kind: str) -> None:
        if address != "+447700900001":
            raise LookupError(address)
        self.said.append((address, text, kind))

    async def set_handoff(self, conversation_id: str, up: bool) -> None:
        if conversation_id != "c-1":
            raise KeyError(conversation_id)
        if self.refuses is not None:
            raise self.refuses
        self.handed.append((conversation_id, up))

    async def person_says(self, conversation_id: str, text: str, key: str) -> dict[str, Any]:
        if conversation_id != "c-1":
            raise KeyError(conversation_id)
        if self.refuses is not None:
            raise self.refuses
        self.answered.append((conversation_id, text, key))
        return {"delivery": "accepted", "why": None, "turn_id": "person-k-1"}


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def server(backend: Backend) -> AsyncIterator[PageServer]:
    server = PageServer(backend, heartbeat_seconds=30)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: PageServer) -> AsyncIterator[ClientSession]:
    async with ClientSession(server.url) as session:
        yield session


async def state_from(stream: ClientResponse) -> dict[str, Any]:
    """The next state on the stream."""
    async with asyncio.timeout(5):
        while True:
            line = await stream.content.readline()
            assert line, "the stream has ended"
            if line.startswith(b"data: "):
                state = json.loads(line[6:])
                assert isinstance(state, dict)
                return state


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/dom.js", "text/javascript"),
        ("/phones.js", "text/javascript"),
        ("/journeys.js", "text/javascript"),
        ("/waiting.js", "text/javascript"),
    ],
)
async def test_the_page_comes_with_strict_headers(
    client: ClientSession, path: str, kind: str
) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert response.content_type == kind
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = await response.text()
    # Nothing inline and nothing from elsewhere: the policy would block it.
    assert "innerHTML" not in text
    assert " style=" not in text
    assert "<style" not in text
    assert 'src="http' not in text


async def test_the_picture_that_customers_send_can_be_shown(client: ClientSession) -> None:
    async with client.get("/picture.png") as response:
        assert response.headers["Content-Type"] == "image/png"
        assert await response.read() == samples.picture()


async def test_unknown_paths_and_methods(client: ClientSession) -> None:
    for path in ("/nothing", "/page/index.html", "/..%2fpage_server.py"):
        async with client.get(path) as response:
            assert response.status == 404
            assert "Content-Security-Policy" in response.headers
    async with client.get("/api/say") as response:
        assert response.status == 405


async def test_the_state_comes_at_once_and_after_each_change(
    client: ClientSession, server: PageServer, backend: Backend
) -> None:
    async with client.get("/events") as stream:
        assert stream.content_type == "text/event-stream"
        assert await state_from(stream) == {"now": 1}
        for now in (2, 3):
            backend.state = {"now": now, "text": "line\nbreak \u2028 👋"}
            server.changed()
            assert await state_from(stream) == backend.state


async def test_many_changes_are_one_state(
    client: ClientSession, server: PageServer, backend: Backend
) -> None:
    async with client.get("/events") as stream:
        await state_from(stream)
        before = backend.snapshots
        for now in range(100):
            backend.state = {"now": now}
            server.changed()
        while (await state_from(stream))["now"] != 99:
            pass
        assert backend.snapshots - before <= 2


async def test_every_open_page_is_told(
    client: ClientSession, server: PageServer, backend: Backend
) -> None:
    async with client.get("/events") as one, client.get("/events") as two:
        await state_from(one)
        await state_from(two)
        backend.state = {"now": 2}
        server.changed()
        assert await state_from(one) == await state_from(two) == {"now": 2}


async def test_an_idle_stream_says_that_it_lives(backend: Backend) -> None:
    server = PageServer(backend, heartbeat_seconds=0.01)
    await server.start()
    try:
        async with (
            asyncio.timeout(5),
            ClientSession(server.url) as client,
            client.get("/events") as stream,
        ):
            await stream.content.readuntil(b": still here\n\n")
    finally:
        await server.stop()


async def test_stop_ends_open_streams_promptly(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "CLOSE_SECONDS", 60)
    server = PageServer(backend)
    await server.start()
    async with ClientSession(server.url) as client, client.get("/events") as stream:
        await state_from(stream)
        async with asyncio.timeout(10):
            await server.stop()
            assert (await stream.content.read()).strip() == b""
    await server.stop()


async def test_a_closed_page_does_not_disturb_the_others(
    client: ClientSession, server: PageServer, backend: Backend
) -> None:
    async with client.get("/events") as stays:
        await state_from(stays)
        async with client.get("/events") as leaves:
            await state_from(leaves)
        for now in (2, 3):
            backend.state = {"now": now}
            server.changed()
            assert await state_from(stays) == {"now": now}


async def test_a_taken_port_is_an_error(server: PageServer, backend: Backend) -> None:
    port = int(server.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match=str(port)):
        await PageServer(backend, port=port).start()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"text": " hi "}, (" hi ", "text")),
        ({"text": "x" * 4096, "kind": "text"}, ("x" * 4096, "text")),
        ({"text": "", "kind": "location"}, ("", "location")),
        ({"text": "look", "kind": "image"}, ("look", "image")),
        ({"text": "", "kind": "voice"}, ("", "voice")),
    ],
)
async def test_a_customer_says_something(
    client: ClientSession, backend: Backend, sent: dict[str, str], said: tuple[str, str]
) -> None:
    async with client.post("/api/say", json={"address": "+447700900001", **sent}) as response:
        assert response.status == 204
    assert backend.said == [("+447700900001", *said)]


@pytest.mark.parametrize("up", [True, False])
async def test_a_conversation_is_handed_over_and_back(
    client: ClientSession, backend: Backend, up: bool
) -> None:
    async with client.post("/api/handoff", json={"conversation_id": "c-1", "up": up}) as response:
        assert response.status == 204
    assert backend.handed == [("c-1", up)]


async def test_a_person_answers(client: ClientSession, backend: Backend) -> None:
    body = {"conversation_id": "c-1", "text": " Ann here ", "key": "k-1"}
    async with client.post("/api/answer", json=body) as response:
        assert response.status == 200
        assert await response.json() == {"delivery": "accepted", "why": None}
    assert backend.answered == [("c-1", " Ann here ", "k-1")]


@pytest.mark.parametrize(
    ("path", "more"), [("answer", {"text": "hi", "key": "k-1"}), ("handoff", {"up": True})]
)
async def test_what_the_operator_api_refuses_is_told_in_its_words(
    client: ClientSession, backend: Backend, path: str, more: dict[str, Any]
) -> None:
    backend.refuses = Refused(409, "the customer has opted out")
    async with client.post(f"/api/{path}", json={"conversation_id": "c-1", **more}) as response:
        assert response.status == 409
        assert await response.json() == {"error": "the customer has opted out"}
    assert (backend.answered, backend.handed) == ([], [])


@pytest.mark.parametrize(
    ("path", "body", "status", "names"),
    [
        ("say", b"{", 400, "JSON"),
        ("say", b"\xff\xfe", 400, "JSON"),
        ("say", b"[" * 30_000, 400, "JSON"),
        ("say", b"[]", 400, "object"),
        ("say", b"{}", 400, "address"),
        ("say", b'{"address": "a b", "text": "hi"}', 400, "address"),
        ("say", b'{"address": "+447700900001"}', 400, "text"),
        ("say", b'{"address": "+447700900001", "text": 5}', 400, "text"),
        ("say", b'{"address": "+447700900001", "text": "  "}', 400, "text"),
        (
            "say",
            b'{"address": "+447700900001", "text": "' + b"x" * 4097 + b'"}',
            400,
            "longer than 4096",
        ),
        ("say", b'{"address": "+447700900001", "text": "hi", "kind": "video"}', 400, "kind"),
        ("say", b'{"address": "+447700900001", "text": "hi", "kind": null}', 400, "kind"),
        ("say", b'{"address": "+447700900099", "text": "hi"}', 404, "address"),
        ("say", b" " * 70_000, 413, ""),
        ("handoff", b'{"up": true}', 400, "conversation_id"),
        ("handoff", b'{"conversation_id": "c-1", "up": "yes"}', 400, "up"),
        ("handoff", b'{"conversation_id": "c-1", "up": 1}', 400, "up"),
        ("handoff", b'{"conversation_id": "c-9", "up": true}', 404, "conversation_id"),
        ("answer", b'{"text": "hi", "key": "k"}', 400, "conversation_id"),
        ("answer", b'{"conversation_id": "c-1", "key": "k"}', 400, "text"),
        ("answer", b'{"conversation_id": "c-1", "text": " ", "key": "k"}', 400, "text"),
        (
            "answer",
            b'{"conversation_id": "c-1", "key": "k", "text": "' + b"x" * 8_001 + b'"}',
            400,
            "longer than 8000",
        ),
        ("answer", b'{"conversation_id": "c-1", "text": "hi"}', 400, "key"),
        ("answer", b'{"conversation_id": "c-1", "text": "hi", "key": ""}', 400, "key"),
        ("answer", b'{"conversation_id": "c-1", "text": "hi", "key": "k\\r\\n: v"}', 400, "key"),
        ("answer", b'{"conversation_id": "c-9", "text": "hi", "key": "k"}', 404, "conversation_id"),
    ],
)
async def test_what_is_wrong_is_named(
    client: ClientSession, backend: Backend, path: str, body: bytes, status: int, names: str
) -> None:
    async with client.post(
        f"/api/{path}", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == status
        if names:
            assert names in (await response.json())["error"]
    assert (backend.said, backend.handed, backend.answered) == ([], [], [])


async def test_a_form_of_another_page_is_refused(client: ClientSession, backend: Backend) -> None:
    body = '{"address": "+447700900001", "text": "hi"}'
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        async with client.post(
            "/api/say", data=body, headers={"Content-Type": content_type}
        ) as response:
            assert response.status == 400
    assert backend.said == []


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8123", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:8123", 200),
        ("evil.example", 403),
        ("evil.example:8123", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("localhost:x", 403),
        ("", 403),
    ],
)
async def test_only_local_names_are_served(client: ClientSession, host: str, status: int) -> None:
    for path in ("/", "/page.js"):
        async with client.get(path, headers={"Host": host}) as response:
            assert response.status == status
    async with client.get("/events", headers={"Host": host}) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"Origin": "http://localhost:8123"}, 204),
        ({"Origin": "http://localhost:8123", "Sec-Fetch-Site": "same-origin"}, 204),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "https://localhost:8123"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_other_origins_cannot_post(
    client: ClientSession, backend: Backend, headers: dict[str, str], status: int
) -> None:
    done = status == 204
    for path, body, otherwise in (
        ("say", {"address": "+447700900001", "text": "hi"}, 204),
        ("handoff", {"conversation_id": "c-1", "up": True}, 204),
        ("answer", {"conversation_id": "c-1", "text": "hi", "key": "k"}, 200),
    ):
        async with client.post(
            f"/api/{path}", json=body, headers={"Host": "localhost:8123", **headers}
        ) as response:
            assert response.status == (otherwise if done else status)
    assert [len(b) for b in (backend.said, backend.handed, backend.answered)] == [done] * 3


async def test_other_origins_cannot_listen(client: ClientSession) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        async with client.get("/events", headers=headers) as response:
            assert response.status == 403
