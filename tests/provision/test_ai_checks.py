"""What `replyd check` says of models, tools, prices and of what conversations name."""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import pytest

from replyd.adapters.memory import LoopClock, MemoryStore, Recorder
from replyd.adapters.memory.operations import MemoryTable
from replyd.adapters.provisioning import QueueFacts, TableFacts
from replyd.bootstrap.ai import ai_parts
from replyd.bootstrap.connections import twilio_channel
from replyd.bootstrap.tools import toolbox
from replyd.demo.openai_double import OpenAIDouble
from replyd.domain.messages import ConversationKey
from replyd.provision import CheckResult, check, exit_code
from replyd.provision.assignments import MOST_ITEMS
from replyd.settings import Settings

KEY = "sk-own"
ASSISTANT = {"backend": "assistants", "assistant_id": "asst_own"}


class _Inspector:
    """All is well in AWS."""

    async def queue(self, url: str) -> QueueFacts:
        return QueueFacts(url, "arn:q", dead_letter_arn="arn:d", max_receives=10)

    async def table(self, name: str) -> TableFacts:
        return TableFacts(name, "ACTIVE", "recipient_tel", "conversation_id")

    async def ttl_attribute(self, _name: str) -> str:
        return "expires_at"


class Place:
    def __init__(self, openai: OpenAIDouble) -> None:
        self.openai = openai
        self.table = MemoryTable(MemoryStore(), page=3)

    def holds(self, count: int, **attributes: Any) -> None:
        items = self.table.store.items
        for number in range(len(items), len(items) + count):
            items[ConversationKey(f"+4477009{number:05}", "c")] = dict(attributes)

    async def check(
        self, ai: Mapping[str, Any] = {}, *, flag: bool = False, timeout: float = 10, **groups: Any
    ) -> dict[str, CheckResult]:
        """By name, those alone that are about the AI."""
        known = {"api_key": KEY, "base_url": self.openai.api_url}
        settings = Settings.model_validate({"ai": {**known, **ai}, **groups})
        async with (
            ai_parts(settings, LoopClock(), Recorder()) as parts,
            twilio_channel(settings) as channel,
        ):
            results = await check(
                settings,
                inspector=_Inspector(),
                models=parts.models,
                channel=channel,
                open_tools=partial(toolbox, settings),
                table=self.table,
                assistants=flag,
                timeout=timeout,
            )
        others = {"settings", "public URL", "replies queue", "handoff queue", "table"}
        assert others <= {r.name for r in results}
        return {r.name: r for r in results if r.name not in others}


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with OpenAIDouble(api_key=KEY) as openai:
        yield Place(openai)


def code(rows: Mapping[str, CheckResult]) -> int:
    return exit_code(list(rows.values()))


# --- models --------------------------------------------------------------------------------------


async def test_each_profile_has_a_row_with_its_backend_and_model(place: Place) -> None:
    place.openai.models = ("gpt-6-luna", "gpt-6-sol")
    profiles = {"sales": {"model": "gpt-6-sol"}, "old": {**ASSISTANT}, "far": {"backend": "chat"}}
    rows = await place.check({"profiles": profiles})
    found = {name: row.found for name, row in rows.items() if name.startswith("model")}
    assert found == {
        "model": "responses, gpt-6-luna: answers",
        "model (profile sales)": "responses, gpt-6-sol: answers",
        "model (profile old)": "assistants, asst_own: answers",
        "model (profile far)": "chat, gpt-6-luna: answers",
    }
    assert code(rows) == 0


async def test_a_profile_that_fails_names_its_own_settings(place: Place) -> None:
    place.openai.models = ("gpt-6-luna",)
    rows = await place.check({"profiles": {"our sales": {"model": "gpt-7"}, "same": {}}})
    assert {name for name, row in rows.items() if not row.ok} == {"model (profile our sales)"}
    row = rows["model (profile our sales)"]
    assert row.found.startswith("responses, gpt-7: the project has no model gpt-7")
    assert 'ai.profiles."our sales".model' in row.mend
    assert code(rows) == 69


async def test_a_refused_key_is_never_shown(place: Place) -> None:
    rows = await place.check({"api_key": "sk-other"})
    assert not rows["model"].ok
    assert "OPENAI_API_KEY" in rows["model"].mend
    assert "sk-other" not in repr(rows)


async def test_the_same_question_is_asked_once() -> None:
    class Counted(OpenAIDouble):
        asked = 0

        def denied(self, request: Any) -> Any:
            self.asked += 1
            return super().denied(request)

    async with Counted(api_key=KEY) as openai:
        same = {"instructions": "Other ones.", "timeout_seconds": 5}
        rows = await Place(openai).check({"profiles": {"a": same, "b": {}, "c": {"model": "m"}}})
    assert len([name for name in rows if name.startswith("model")]) == 4
    assert openai.asked == 2


async def test_models_whose_end_is_known_come_with_advice(place: Place) -> None:
    profiles = {"old": {"model": "gpt-5-mini"}, "new": {}}
    rows = await place.check({"profiles": profiles}, voice={"model": "whisper-1"})
    old = rows["model (profile old)"]
    assert old.ok
    assert "gpt-5-mini on 2026-12-11" in old.mend
    assert "ai.profiles.old.model" in old.mend
    assert "whisper-1 on 2027-02-26" in rows["voice notes"].mend
    assert rows["model"].mend == rows["model (profile new)"].mend == ""
    assert code(rows) == 0


@pytest.mark.parametrize("voice", [{"enabled": False, "model": "whisper-1"}, {}])
async def test_voice_notes_without_advice_have_no_row(place: Place, voice: Any) -> None:
    assert "voice notes" not in await place.check(voice=voice)


async def test_a_model_that_is_given_to_an_assistant_is_named(place: Place) -> None:
    rows = await place.check({**ASSISTANT, "model": "gpt-4o"})
    assert rows["model"].found == "assistants, asst_own, gpt-4o: answers"
    assert "2027-01-14" in rows["model"].mend


@pytest.mark.parametrize(("on_gone", "models"), [("responses", "1 of 2"), ("handoff", "1 of 1")])
async def test_an_assistants_own_model_has_no_price(
    place: Place, on_gone: str, models: str
) -> None:
    """Unless the settings' own answers when the API is gone."""
    ai = {**ASSISTANT, "assistants": {"on_gone": on_gone}}
    ai["profiles"] = {"new": {"backend": "responses", "model": "m"}}
    rows = await place.check(ai, prices={"m": {"input": 1, "output": 2}})
    assert rows["prices"].found == f"known for {models} models"


async def test_a_gone_api_is_advice_while_responses_answer(place: Place) -> None:
    place.openai.assistants.gone = True
    rows = await place.check(ASSISTANT)
    assert rows["model"].ok
    assert rows["model"].found == (
        "assistants, asst_own: the Assistants API is gone from this server; the Responses API "
        "answers, with gpt-6-luna"
    )
    for setting in ("ai.backend", "ai.profiles", "ai.assistants.map"):
        assert setting in rows["model"].mend
    assert code(rows) == 0


async def test_a_gone_api_is_a_failure_while_people_get_the_turns(place: Place) -> None:
    place.openai.assistants.gone = True
    on_gone = {"assistants": {"on_gone": "handoff"}}
    rows = await place.check({"profiles": {"old": ASSISTANT}, **on_gone})
    row = rows["model (profile old)"]
    assert not row.ok
    assert row.found == "assistants, asst_own: the Assistants API is gone from this server"
    assert 'ai.profiles.old.backend = "responses"' in row.mend
    assert rows["model"].ok
    assert code(rows) == 69


# --- tools and prices ----------------------------------------------------------------------------


async def test_tools_are_counted(place: Place) -> None:
    assert (await place.check())["tools"].found == "none in [tools]"
    tool = {"description": "Looks.", "url": "http://127.0.0.1:9/find"}
    assert (await place.check(tools={"find": tool}))["tools"].found == "1 in [tools]"


async def test_tools_that_cannot_be_had_are_wrong_settings(place: Place) -> None:
    tools = {
        name: {"description": "Does.", "python": f"nowhere.at_all:{name}"} for name in ("a", "b")
    }
    rows = await place.check(tools=tools)
    assert not rows["tools"].ok
    first, second = rows["tools"].found.splitlines()
    assert first.startswith("tools.a cannot be used")
    assert second.startswith("tools.b cannot be used")
    assert code(rows) == 78


async def test_models_without_a_price_count_as_free(place: Place) -> None:
    price = {"input": 1, "output": 2}
    profiles = {"big": {"model": "gpt-6-sol"}, "old": {"model": "gpt-6-luna-2026-10-01"}}
    rows = await place.check({"profiles": profiles}, prices={"gpt-6-luna": price})
    assert (rows["prices"].ok, rows["prices"].found) == (True, "known for 2 of 3 models")
    assert rows["prices"].mend == "gpt-6-sol counts as free: add [prices.gpt-6-sol]"
    rows = await place.check(prices={"gpt-6-luna": price}, limits={"day_dollars": 1})
    assert rows["prices"].mend == ""


async def test_where_no_money_is_counted_there_are_no_prices(place: Place) -> None:
    assert "prices" not in await place.check()


async def test_webhooks_alone_need_no_model_and_no_tools(place: Place) -> None:
    tool = {"description": "Does.", "python": "nowhere.at_all:run"}
    server = {"role": "webhook"}
    rows = await place.check(
        {"api_key": "sk-other", **ASSISTANT}, server=server, tools={"run": tool}
    )
    assert rows == {}
    assert place.table.read == 0


# --- what the conversations name -----------------------------------------------------------------

MAPPED = {"profiles": {"sales": {}}, "assistants": {"map": {"asst_sales": "sales"}}}
IDS, PROFILES = "assistant ids in the table", "profiles in the table"


async def test_assistants_that_no_entry_maps_are_listed_with_their_conversations(
    place: Place,
) -> None:
    place.holds(4, assistant_id="asst_sales")
    place.holds(2, assistant_id="asst_b")
    place.holds(5, assistant_id="asst_a")
    place.holds(1, assistant_id="asst_c", ai_profile="sales")
    place.holds(3, assistant_id="")
    rows = await place.check(MAPPED)
    assert rows[IDS].ok
    assert rows[IDS].found.splitlines() == [
        "unknown, of 15 items:",
        "asst_a: 5 conversations",
        "asst_b: 2 conversations",
    ]
    assert "ai.assistants.map" in rows[IDS].mend
    assert (rows[PROFILES].found, rows[PROFILES].mend) == ("none unknown, of 15 items", "")
    assert code(rows) == 0


async def test_profiles_that_do_not_exist_are_listed_too(place: Place) -> None:
    place.holds(1, ai_profile="salse", assistant_id="asst_sales")
    place.holds(2, ai_profile="sales")
    rows = await place.check(MAPPED)
    assert rows[PROFILES].found.splitlines() == ["unknown, of 3 items:", "salse: 1 conversation"]
    assert "ai_profile" in rows[PROFILES].mend
    assert rows[IDS].found == "none unknown, of 3 items"


async def test_the_attributes_are_settings(place: Place) -> None:
    place.holds(1, bot="asst_new", who="nobody", assistant_id="x", ai_profile="y")
    assistants = {"attribute": "bot", "map": {"asst_sales": "sales"}}
    rows = await place.check({**MAPPED, "profile_attribute": "who", "assistants": assistants})
    assert rows[IDS].found.splitlines()[1:] == ["asst_new: 1 conversation"]
    assert rows[PROFILES].found.splitlines()[1:] == ["nobody: 1 conversation"]


async def test_the_assistant_that_answers_by_default_needs_no_entry(place: Place) -> None:
    place.holds(1, assistant_id="asst_own")
    place.holds(1, assistant_id="asst_other")
    rows = await place.check(ASSISTANT)
    assert rows[IDS].found.splitlines()[1:] == ["asst_other: 1 conversation"]


async def test_a_table_is_read_only_where_assistants_are_spoken_of(place: Place) -> None:
    place.holds(1, assistant_id="asst_a")
    assert IDS not in await place.check({"profiles": {"sales": {}}})
    assert place.table.read == 0
    assert "asst_a: 1 conversation" in (await place.check(flag=True))[IDS].found
    assert IDS in await place.check({"profiles": {"old": ASSISTANT}})


async def test_ten_are_shown(place: Place) -> None:
    for number in range(13):
        place.holds(1, assistant_id=f"asst_{number}")
    found = (await place.check(flag=True))[IDS].found.splitlines()
    assert len(found) == 12
    assert found[-1] == "and 3 more"


async def test_no_more_than_ten_thousand_items_are_read(place: Place) -> None:
    place.table.page = 999
    place.holds(MOST_ITEMS, assistant_id="asst_a")
    assert "of 10,000 items" in (await place.check(flag=True))[IDS].found
    place.holds(2, assistant_id="asst_b")
    found = (await place.check(flag=True))[IDS].found
    assert found.splitlines() == [
        "unknown, of the first 10,000 items:",
        "asst_a: 10,000 conversations",
    ]


async def test_a_table_too_slow_to_read_is_told_as_far_as_it_was_read(place: Place) -> None:
    place.holds(7, assistant_id="asst_a")
    found = (await place.check(flag=True, timeout=0))[IDS].found
    assert found == "none unknown, of the first 0 items"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("+447700900001", "+44…01"),
        ("whatsapp:+447700900001", "+44…01"),
        ("a\x1b[31m", r"'a\x1b[31m'"),
        ("a" * 65, "a" * 64 + "…"),
    ],
)
async def test_what_is_no_id_is_not_printed_as_it_is(place: Place, value: str, shown: str) -> None:
    place.holds(1, assistant_id=value)
    found = (await place.check(flag=True))[IDS].found.splitlines()
    assert found[1:] == [f"{shown}: 1 conversation"]
