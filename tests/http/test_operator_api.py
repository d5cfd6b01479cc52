"""The operator API over real HTTP, on the operations port of a process with parts in memory."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from replyd.adapters.dynamodb import TableLayout
from replyd.adapters.memory.operations import MemoryTable
from replyd.adapters.table_scan import TableScan
from replyd.bootstrap.policies import policies
from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.errors import Ambiguous, DependencyDown, Permanent, Temporary
from replyd.flows.desk import Desk
from replyd.ports import WholeTable
from replyd.runtime import operator_openapi
from replyd.runtime.health import Health
from replyd.runtime.operator_api import OperatorApi
from replyd.runtime.operator_requests import MAX_BODY_BYTES
from replyd.runtime.ops_server import OpsServer
from replyd.settings import Settings
from tests.contract.conftest import client
from tests.http.conftest import Log
from tests.support.world import ACCOUNT, CUSTOMER, KEY, Worker, World, message

TOKEN = "a-token-of-16-characters"
DOCUMENT = operator_openapi.document()
ONE = f"/operator/conversations/{CUSTOMER}/c-1"
REPLY = {"text": "hello, Ann here", "author": "Ann", "account_sid": ACCOUNT}


@dataclass
class Office:
    world: World
    worker: Worker
    session: aiohttp.ClientSession
    url: str

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        given = {"Authorization": f"Bearer {TOKEN}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self.session.request(
            method, URL(self.url + path, encoded=True), json=body, headers=given
        ) as answer:
            found = await answer.json()
            assert answer.headers["Cache-Control"] == "no-store"
            check(method, path.partition("?")[0], answer.status, found)
            return answer.status, found

    async def reply(self, key: str = "k-1", **changes: Any) -> tuple[int, dict[str, Any]]:
        return await self.ask("POST", ONE + "/reply", REPLY | changes, Idempotency_Key=key)


def check(method: str, path: str, status: int, found: Any) -> None:
    """Whether the document describes this answer."""
    parts = path.split("/")
    if len(parts) > 4:
        parts[3:5] = ["{recipient_tel}", "{conversation_id}"]
    operation = DOCUMENT["paths"].get("/".join(parts), {}).get(method.lower())
    if operation is None:
        assert status in (401, 404, 405)
        schema: Any = {"$ref": "#/components/schemas/Error"}
    else:
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    jsonschema.validate(found, {**schema, "components": DOCUMENT["components"]})


def api(world: World, worker: Worker, table: WholeTable | None = None) -> OperatorApi:
    window, policy = policies(world.settings)
    desk = Desk(
        store=world.store,
        table=table or MemoryTable(world.store),
        now=world.clock.now,
        window=window,
        policy=policy,
        grace_ms=20_000,
    )
    return OperatorApi(token=TOKEN, people=worker.people, desk=desk)


@asynccontextmanager
async def working(table: WholeTable | None = None, **settings: Any) -> AsyncIterator[Office]:
    world = World()
    world.converse()
    worker = world.worker()
    server = OpsServer(
        health=Health(world.clock, {}),
        render=lambda: (b"", ""),
        host="127.0.0.1",
        port=0,
        operators=api(world, worker, table),
        **settings,
    )
    await server.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
            yield Office(world, worker, session, f"http://127.0.0.1:{server.port}")
    finally:
        await server.stop()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with working() as office:
        yield office


def test_the_document_is_checked_in() -> None:
    path = Path(__file__).parents[2] / "docs" / "openapi.json"
    assert json.loads(path.read_text()) == DOCUMENT, "run python -m replyd.runtime.operator_openapi"


def test_the_document_is_openapi() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(DOCUMENT)


async def test_the_document_is_served(office: Office) -> None:
    assert await office.ask("GET", "/operator/openapi.json") == (200, DOCUMENT)


@pytest.mark.parametrize("given", ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "é"])
async def test_nobody_without_the_token(office: Office, given: str) -> None:
    before = office.world.item()
    for method, path in (
        ("GET", "/operator/conversations"),
        ("GET", ONE),
        ("POST", ONE + "/reply"),
        ("POST", ONE + "/release"),
        ("GET", "/operator/openapi.json"),
        ("GET", "/operator/nothing"),
        ("PUT", ONE),
    ):
        status, found = await office.ask(method, path, Authorization=given)
        assert (status, found["error"]["code"]) == (401, "unauthorized")
    assert office.world.item() == before
    assert office.world.channel.accepted == []


@pytest.mark.parametrize("token", ["short", "sixteen letters or more", "ü" * 16])
def test_a_token_has_to_be_one(token: str) -> None:
    with pytest.raises(ValidationError, match="at least 16 characters") as refused:
        Settings.model_validate({"ops": {"token": token}})
    assert token not in str(refused.value)


async def test_without_a_token_in_the_settings_there_is_nothing() -> None:
    health = Health(World().clock, {})
    server = OpsServer(health=health, render=lambda: (b"", ""), host="127.0.0.1", port=0)
    await server.start()
    url = f"http://127.0.0.1:{server.port}/operator/conversations"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.status == 404
    finally:
        await server.stop()


async def test_a_person_answers_and_asks_again(office: Office) -> None:
    status, found = await office.reply()
    assert status == 200
    assert (found["delivery"], found["again"], len(found["parts"])) == ("accepted", False, 1)
    assert office.world.item()[record.HANDOFF] is True
    status, again = await office.reply()
    assert (status, again) == (200, found | {"again": True})
    assert len(office.world.channel.accepted) == 1
    status, found = await office.reply(text="other words")
    assert (status, found["error"]["code"]) == (422, "key_used")


async def test_what_may_have_been_sent_is_202(office: Office) -> None:
    office.world.channel.failures = [Ambiguous("twilio", "no answer")]
    status, found = await office.reply()
    assert (status, found["delivery"]) == (202, "unknown")
    status, found = await office.reply()
    assert (status, found["delivery"], found["again"]) == (202, "unknown", True)


async def test_what_twilio_refuses_is_shown_with_its_code(office: Office) -> None:
    reason = "the customer's last message is more than 24 hours old (63016)"
    office.world.channel.failures = [Permanent("twilio", reason, code="63016")]
    status, found = await office.reply()
    error = {"code": "not_sent", "message": reason, "vendor_code": "63016"}
    assert (status, found) == (422, {"error": error})


async def test_what_cannot_be_done_now_is_503(office: Office) -> None:
    office.world.channel.failures = [Temporary("twilio", "no connection")]
    assert (await office.reply())[0] == 503
    office.world.store.fail_before["take_over"] = [DependencyDown("dynamodb", "unreachable")]
    status, found = await office.ask("POST", ONE + "/handoff", {"author": "Ann"})
    assert (status, found["error"]["code"]) == (503, "unavailable")


async def test_free_text_after_24_hours_is_409_and_says_what_to_do(office: Office) -> None:
    office.world.converse(reply_last_at=office.world.clock.now() - 24 * 60 * 60 * 1000)
    status, found = await office.reply()
    assert (status, found["error"]["code"]) == (409, "window_closed")
    assert "sending.template_sid" in found["error"]["message"]
    assert office.world.channel.accepted == []


async def test_the_ai_at_work_is_409(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replyd.flows.person.WAIT_SECONDS", 0.0)
    lease = {"owner": "w", "token": "t", "expires_at": office.world.clock.now() + 60_000}
    office.world.item()[record.LEASE] = lease
    status, found = await office.reply()
    assert (status, found["error"]["code"]) == (409, "busy")


async def test_a_conversation_is_taken_and_given_back(office: Office) -> None:
    body = {"author": "Ann", "reason": "a refund"}
    assert await office.ask("POST", ONE + "/handoff", body) == (200, {"handoff_to_human": True})
    _, found = await office.ask("GET", ONE)
    assert found["handoff_to_human"] is True
    assert found["taken_over"]["reason"] == "a refund"
    answer = await office.ask("POST", ONE + "/release", {"author": "Ann"})
    assert answer == (200, {"handoff_to_human": False})
    assert office.world.item()[record.HANDOFF] is False


async def test_a_conversation_is_shown_with_its_texts(office: Office) -> None:
    await office.worker.accept(message(1, "where is my loaf?"))
    _, found = await office.ask("GET", ONE)
    assert found["pending"][0]["text"] == "where is my loaf?"
    assert found["takes_new_messages"] is True
    await office.reply()
    _, found = await office.ask("GET", ONE)
    assert [(e["text"], e["author"]) for e in found["history"]["tail"]] == [
        ("hello, Ann here", "Ann")
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/operator/conversations/%2B447700900001/c-2",
        "/operator/conversations/%2B447700900009/c-1",
        "/operator/conversations/archive%23c-1/x",
        "/operator/conversations/a%20b/c-1",
        f"/operator/conversations/{CUSTOMER}/c%0A1",
    ],
)
async def test_who_is_not_there(office: Office, path: str) -> None:
    for method, of, body in (
        ("GET", path, None),
        ("POST", path + "/release", {"author": "Ann"}),
        ("POST", path + "/handoff", {"author": "Ann"}),
        ("POST", path + "/reply", REPLY),
    ):
        status, found = await office.ask(method, of, body, Idempotency_Key="k")
        assert (status, found["error"]["code"]) == (404, "no_conversation")


async def test_other_paths_and_methods(office: Office) -> None:
    assert (await office.ask("GET", "/operator/other"))[0] == 404
    assert (await office.ask("GET", "/operator/"))[0] == 404
    assert (await office.ask("DELETE", ONE))[0] == 405
    assert (await office.ask("GET", ONE + "/reply"))[0] == 405


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "no JSON object"),
        ({}, "text is missing"),
        (REPLY | {"text": ""}, "text is a text of 1 to 8000"),
        (REPLY | {"text": " \n "}, "text has characters"),
        (REPLY | {"text": "x" * 8_001}, "text is a text of 1 to 8000"),
        (REPLY | {"text": 7}, "text is a text"),
        (REPLY | {"text": "\ud800"}, "lone surrogate"),
        (REPLY | {"author": "A\nnn"}, "author has characters"),
        (REPLY | {"account_sid": "AC"}, "account_sid is a text of 34"),
        (REPLY | {"media": "x"}, "nothing else"),
    ],
)
async def test_a_body_that_is_wrong_says_where(office: Office, body: Any, said: str) -> None:
    status, found = await office.ask("POST", ONE + "/reply", body, Idempotency_Key="k")
    assert (status, found["error"]["code"]) == (400, "bad_request")
    assert said in found["error"]["message"]
    assert office.world.channel.accepted == []


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 65, "ü"])
async def test_a_reply_wants_an_idempotency_key(office: Office, key: str) -> None:
    status, found = await office.reply(key=key)
    assert status == 400
    assert "Idempotency-Key" in found["error"]["message"]


async def test_bodies_have_a_limit_and_a_type(office: Office) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "k"}
    as_json = headers | {"Content-Type": "application/json"}
    post = partial(office.session.post, f"{office.url}{ONE}/reply")
    async with post(data=b" " * (MAX_BODY_BYTES + 1), headers=as_json) as answer:
        assert answer.status == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1024

    async with post(data=chunks(), headers=as_json) as answer:
        assert answer.status == 413
    async with post(data=b"{}", headers=headers) as answer:
        assert answer.status == 415
    async with post(data=b"{", headers=as_json) as answer:
        assert answer.status == 400
    async with post(data=b"[" * 60_000, headers=as_json) as answer:
        assert answer.status == 400


async def test_no_browser_is_let_in(office: Office) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    async with office.session.options(f"{office.url}{ONE}/reply", headers=headers) as answer:
        assert answer.status == 401
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_list_that_is_not_allowed_says_what_allows_it(log: Log) -> None:
    """DynamoDB refuses the Scan, as it does where the role has no such action."""

    async def refuse(_request: web.BaseRequest) -> web.Response:
        kind = "application/x-amz-json-1.0"
        code = "com.amazon.coral.service#AccessDeniedException"
        body = {"__type": code, "Message": f"User: arn:x is not authorized for {CUSTOMER}"}
        return web.json_response(body, status=400, content_type=kind)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with (
            client("dynamodb", f"http://{host}:{port}") as dynamodb,
            working(TableScan(dynamodb, TableLayout("t"))) as office,
        ):
            status, found = await office.ask("GET", "/operator/conversations")
            error = found["error"]
            assert (status, error["code"]) == (501, "not_allowed")
            assert error["vendor_code"] == "AccessDeniedException"
            for word in ("dynamodb:Scan", "OperatorApi=true"):
                assert word in error["message"]
            assert CUSTOMER not in error["message"]
            # The rest of it works.
            assert (await office.ask("GET", ONE))[0] == 200
        log.take()  # AWS's library is talkative at DEBUG.
    finally:
        await runner.cleanup()


async def test_pages_of_the_list(office: Office) -> None:
    world = office.world
    for number in range(2, 8):
        history = [{"role": "user", "content": "?", "message_id": f"SM{number}"}]
        world.converse(
            ConversationKey(f"+44770090000{number}", f"c-{number}"),
            **{record.MESSAGES: history, record.HANDOFF: number % 2 == 0},
        )
    await world.store.put_side("archive#c-1", {"messages": []}, None, part="2026")
    names: list[str] = []
    cursor = ""
    for _ in range(10):
        _, page = await office.ask("GET", f"/operator/conversations?limit=2&cursor={cursor}")
        names += [c["conversation_id"] for c in page["conversations"]]
        assert page["more"] is (page["next_cursor"] is not None)
        if not (cursor := page["next_cursor"] or ""):
            break
    assert sorted(names) == [f"c-{n}" for n in range(1, 8)]
    _, page = await office.ask("GET", "/operator/conversations?waiting=true")
    assert sorted(c["conversation_id"] for c in page["conversations"]) == ["c-2", "c-4", "c-6"]
    assert all(c["waiting"] for c in page["conversations"])
    # Whoever was answered does not wait any more.
    await office.ask(
        "POST",
        "/operator/conversations/+447700900002/c-2/reply",
        REPLY,
        Idempotency_Key="k",
    )
    _, page = await office.ask("GET", "/operator/conversations?waiting=true")
    assert sorted(c["conversation_id"] for c in page["conversations"]) == ["c-4", "c-6"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "waiting=yes", "cursor=zzz", "cursor=W10", "page=1"],
)
async def test_a_query_that_is_wrong(office: Office, query: str) -> None:
    assert (await office.ask("GET", f"/operator/conversations?{query}"))[0] == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
BODIES = JSON | st.fixed_dictionaries(
    {},
    optional={"text": JSON, "author": JSON, "reason": JSON, "account_sid": JSON},
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=BODIES, action=st.sampled_from(["reply", "handoff", "release"]), key=st.text(max_size=9)
)
async def test_whatever_comes_the_answer_is_in_the_document(
    office: Office, body: Any, action: str, key: str
) -> None:
    plain = "".join(c for c in key if c.isprintable() and c.isascii())
    status, _ = await office.ask("POST", f"{ONE}/{action}", body, Idempotency_Key=plain)
    assert status != 500
    assert KEY in office.world.store.items
