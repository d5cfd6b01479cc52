"""`docs/ai.md` says what the code does, as far as a machine can tell."""

import json
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from replyd.adapters.tools.box import Tools
from replyd.adapters.tools.http import Endpoint, HttpTool
from replyd.bootstrap.policies import tool_specs
from replyd.domain import turn
from replyd.ports import ToolContext
from replyd.settings import Settings, load, schema

DOCS = Path(__file__).parent.parent / "docs"
TEXT = (DOCS / "ai.md").read_text("utf-8")
# A block may stand in a list, indented.
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([\w.-]*)(?:#([\w-]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_SETTING = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)(?: = [^`]+)?`")

SERVING = {
    "REPLYD_SERVER__PUBLIC_URL": "https://hooks.example.com",
    "REPLYD_QUEUES__REPLIES_URL": "https://sqs.example.com/1/replies",
    "REPLYD_QUEUES__HANDOFF_URL": "https://sqs.example.com/1/handoff",
    "REPLYD_CONVERSATIONS__TABLE": "conversations",
    "OPENAI_API_KEY": "sk-1",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "TWILIO_AUTH_TOKEN": "token-1",
    "SHOP_AUTHORIZATION": "Bearer x",
}


def blocks(language: str) -> list[str]:
    return [
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        for indent, found, text in _BLOCK.findall(TEXT)
        if found == language
    ]


def read(toml: str, directory: Path) -> Settings:
    path = directory / "replyd.toml"
    path.write_text(toml, "utf-8")
    return load(path, SERVING)


@pytest.mark.parametrize("block", blocks("toml"))
def test_each_example_can_be_served_with(block: str, tmp_path: Path) -> None:
    assert read(block, tmp_path).ai.model_dump(exclude_defaults=True)


def test_the_first_example_is_what_the_text_makes_of_it(tmp_path: Path) -> None:
    settings = read(blocks("toml")[0], tmp_path)
    ai = settings.ai
    assert ai.assistants.map == {"asst_abc123": "wholesale"}
    assert ai.profile("wholesale").fallback == ai.fallback == "spare"
    assert ai.profile("spare").fallback == ""
    assert ai.profile("spare").api_key.get_secret_value() == ""
    assert ai.profile("wholesale").api_key.get_secret_value() == SERVING["OPENAI_API_KEY"]
    # A fallback with the tools of the profile that it stands in for.
    assert ai.profile("spare").tools == ai.tools
    header = settings.tools["find_order"].headers["Authorization"]
    assert header.get_secret_value() == SERVING["SHOP_AUTHORIZATION"]


def test_each_setting_that_it_names_exists() -> None:
    groups = {at[0] for at, _ in schema.settings()}
    named = {name for name in _SETTING.findall(TEXT) if name.split(".")[0] in groups}
    assert len(named) > 20
    assert [name for name in sorted(named) if schema.at(tuple(name.split("."))) is None] == []


def test_its_links_lead_somewhere() -> None:
    for name, anchor in _LINK.findall(TEXT):
        text = (DOCS / name).read_text("utf-8") if name else TEXT
        assert not anchor or anchor in map(_anchor, _HEADING.findall(text)), (name, anchor)


def test_handoff_reasons_are_the_ones_described() -> None:
    text = (DOCS / "interfaces.md").read_text("utf-8")
    table = text[text.index("| `handoff_reason` |") :].partition("\n\n")[0]
    reasons = {turn.REQUESTED, turn.OPTED_OUT, turn.FAILED, turn.AMBIGUOUS, turn.TOO_OLD}
    reasons |= {turn.UNDELIVERED, turn.BY_AI, turn.OVER_LIMIT, turn.LOOP, turn.FLAGGED}
    reasons |= {turn.WINDOW_CLOSED}
    described = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) - {"handoff_reason"}
    assert described == reasons


async def test_a_tool_is_called_as_it_says(tmp_path: Path) -> None:
    (described,) = map(json.loads, blocks("json"))
    called: list[tuple[dict[str, object], str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        headers = request.headers
        called.append((await request.json(), headers["Accept"], headers["Idempotency-Key"]))
        return web.Response(text="cancelled")

    app = web.Application()
    app.router.add_post("/", handle)
    spec = tool_specs(read(blocks("toml")[0], tmp_path))[described["tool"]]
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        tools = Tools([HttpTool(spec, Endpoint(str(server.make_url("/"))), session)])
        context = ToolContext(
            conversation_id=described["conversation_id"],
            customer=described["customer"],
            business=described["business"],
            turn=described["turn"],
        )
        arguments = tools.check(spec.name, json.dumps(described["arguments"]))
        assert await tools.run(spec.name, arguments, context) == "cancelled"
    ((body, accept, key),) = called
    assert body == described
    assert f"`Accept: {accept}`" in TEXT
    assert key == f"{described['turn']}:{spec.name}"
    assert "`Idempotency-Key: <turn>:<tool>`" in TEXT


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
