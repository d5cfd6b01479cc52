"""Profiles, tools, prices: settings in tables that the operator names, and what they agree on."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from replyd.errors import ConfigError
from replyd.settings import Ai, Price, Profile, Settings, Tool, load, schema
from replyd.settings.names import Path as Location
from replyd.settings.names import dotted

SECRET = "s3cret-value"
SERVING = {
    "REPLYD_SERVER__PUBLIC_URL": "https://hooks.example.com",
    "REPLYD_QUEUES__REPLIES_URL": "https://sqs.example.com/1/replies",
    "REPLYD_QUEUES__HANDOFF_URL": "https://sqs.example.com/1/handoff",
    "REPLYD_CONVERSATIONS__TABLE": "conversations",
    "OPENAI_API_KEY": "sk-1",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "TWILIO_AUTH_TOKEN": "token-1",
}
FIND = '[tools.find]\ndescription = "Finds."\nurl = "https://shop.example.com/find?by=number"\n'
ORDER = {"type": "object", "properties": {"number": {"type": "string"}}}


def _every_setting() -> Iterator[Location]:
    """Those of named tables under the name x, and the tables themselves."""
    for at, node in schema.settings():
        yield at
        if isinstance(node, schema.Tables):
            yield (*at, "x")
            yield from ((*at, "x", key) for key in node.model.model_fields)


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(toml: str, environ: Mapping[str, str] | None = None) -> Settings:
    Path("test.toml").write_text(toml)
    return load(Path("test.toml"), SERVING | dict(environ or {}))


def problems(toml: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(toml, environ)
    found = list(caught.value.problems)
    assert all("\n" not in problem for problem in found)
    assert SECRET not in "".join(found)
    return found


# --- profiles ----------------------------------------------------------------------------------


def test_a_profile_inherits_what_it_leaves_out() -> None:
    ai = read(
        '[ai]\nmodel = "m-1"\ntools = []\nfallback_text = "Later."\n'
        '[ai.profiles.sales]\nmodel = "m-2"\ntimeout_seconds = 7\n'
        "[ai.profiles.help]\n"
    ).ai
    assert ai.names() == ("sales", "help")
    sales, help_ = ai.profile("sales"), ai.profile("help")
    assert (sales.model, sales.timeout_seconds, sales.tools) == ("m-2", 7, ())
    assert sales.fallback_text == "Later."
    assert (help_.model, help_.timeout_seconds, help_.tools) == ("m-1", 60, ())
    assert help_.api_key.get_secret_value() == "sk-1"


def test_the_profile_without_a_name_is_the_default() -> None:
    ai = Ai(model="m-1", profiles={"sales": Profile(model="m-2")})
    assert ai.profile("") is ai
    assert ai.profile("sales").model == "m-2"
    with pytest.raises(KeyError):
        ai.profile("help")


def test_a_profile_can_take_back_what_ai_sets() -> None:
    ai = read(
        '[ai]\nbase_url = "http://127.0.0.1:1/v1"\nfallback = "help"\n'
        '[ai.profiles.sales]\nbase_url = ""\napi_key = "k"\nfallback = ""\n[ai.profiles.help]\n'
    ).ai
    assert (ai.profile("sales").base_url, ai.profile("sales").fallback) == ("", "")


def test_a_profile_sends_no_key_to_a_server_that_is_not_the_keys() -> None:
    ai = read(
        '[ai]\napi_key = "k"\n'
        '[ai.profiles.own]\nbase_url = "http://127.0.0.1:1/v1"\n'
        '[ai.profiles.same]\nmodel = "m"\n'
    ).ai
    assert ai.profile("own").api_key.get_secret_value() == ""
    assert ai.profile("same").api_key == ai.api_key


def test_profiles_of_the_environment() -> None:
    toml = '[ai.profiles.sales]\nmodel = "m-2"\ninstructions = "Sell."\n'
    environ = {
        "REPLYD_AI__PROFILES__SALES__MODEL": "m-3",
        "REPLYD_AI__PROFILES__HELP__REASONING_EFFORT": "low",
        "REPLYD_AI__ASSISTANTS__ON_GONE": "handoff",
        "REPLYD_AI__ASSISTANTS__MAP": '{"asst_1": "sales"}',
    }
    ai = read(toml, environ).ai
    assert (ai.profile("sales").model, ai.profile("sales").instructions) == ("m-3", "Sell.")
    assert ai.profile("help").reasoning_effort == "low"
    assert (ai.assistants.on_gone, ai.assistants.map) == ("handoff", {"asst_1": "sales"})
    whole = json.dumps({"Other": {"tools": ["hand_over"], "store": False}})
    ai = read(toml, {"REPLYD_AI__PROFILES": whole}).ai
    assert ai.names() == ("Other",)
    assert not ai.profile("Other").store


def test_a_chain_of_fallbacks_ends_where_nothing_is_set() -> None:
    ai = read(
        '[ai]\nfallback = "first"\n[ai.profiles.first]\nfallback = "second"\n'
        "[ai.profiles.second]\n[ai.profiles.sales]\n"
    ).ai
    assert [ai.profile(name).fallback for name in ("", "sales", "first", "second")] == [
        "first",
        "first",
        "second",
        "",
    ]


def test_what_is_inherited_wrong_is_complained_of_once() -> None:
    found = problems(
        '[ai]\ntimeout_seconds = 0\non_empty = "text"\nfallback = "none"\n'
        "[ai.profiles.sales]\nmax_tool_rounds = 21\n[ai.profiles.help]\n"
    )
    assert [problem.split(" (")[0] for problem in found] == [
        "ai.timeout_seconds in test.toml is wrong: it must be more than 0",
        "ai.profiles.sales.max_tool_rounds in test.toml is wrong: it must be at most 20",
        "ai.fallback must be the name of a profile: known are help, sales",
        'ai.fallback_text is missing: ai.on_empty "text" sends it to the customer',
    ]


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            f'[ai.profiles.sales]\nmodle = "{SECRET}"',
            (
                "ai.profiles.sales.modle in test.toml is an unknown setting: did you mean "
                "ai.profiles.sales.model?"
            ),
        ),
        (
            "[ai.profiles.sales]\nhistory_messages = 1",
            "ai.profiles.sales.history_messages in test.toml is an unknown setting",
        ),
        (
            f'[ai.assistants]\non_gon = "{SECRET}"',
            (
                "ai.assistants.on_gon in test.toml is an unknown setting: did you mean "
                "ai.assistants.on_gone?"
            ),
        ),
        (f'[ai]\nprofiles = "{SECRET}"', "ai.profiles in test.toml must be a table: write [ai.pro"),
        (f'[ai.profiles]\nsales = "{SECRET}"', "ai.profiles.sales in test.toml must be a table"),
        (
            f'[ai.profiles."a.b"]\nbackend = "{SECRET}"',
            "ai.profiles.\"a.b\".backend in test.toml is wrong: it must be 'responses', ",
        ),
        (
            '[ai.profiles."a\\u0000"]',
            'ai.profiles."a\\u0000" in test.toml is wrong: it must be named by printable',
        ),
        ("[ai.assistants.map]\nasst_1 = 1", "ai.assistants.map in test.toml is wrong: it must be "),
        (f'[ai.assistants]\nmap = "{SECRET}"', "ai.assistants.map in test.toml is wrong: it must"),
    ],
)
def test_problems_of_profiles(toml: str, expected: str) -> None:
    (problem,) = problems(toml)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "AI__PROFILES",
            SECRET,
            "ai.profiles in environment variable REPLYD_AI__PROFILES is wrong",
        ),
        ("AI__PROFILES", f'["{SECRET}"]', "it must be a table"),
        ("AI__PROFILES__SALES", f'"{SECRET}"', "it must be a table"),
        ("AI__PROFILES__SALES__MODLE", SECRET, "ai.profiles.sales.modle in environment variable"),
        ("AI__PROFILES__SALES__MODEL__X", SECRET, "is an unknown setting"),
        ("AI__PROFILES__SALES__STORE", SECRET, "it must be true or false"),
        ("TOOLS", SECRET, "tools in environment variable REPLYD_TOOLS is wrong: it must be JSON"),
        ("PRICES__X__INPUT", SECRET, "prices.x.input in environment variable"),
    ],
)
def test_problems_of_the_environment(name: str, value: str, expected: str) -> None:
    assert expected in problems("", {f"REPLYD_{name}": value})[0]


# --- keys --------------------------------------------------------------------------------------


def test_every_profile_needs_a_key_or_a_server() -> None:
    own_server = '[ai]\nbase_url = "http://127.0.0.1:1/v1"\n'
    no_key = {"OPENAI_API_KEY": ""}
    read(own_server + "[ai.profiles.sales]\n", no_key)
    read(own_server + '[ai.profiles.sales]\nbase_url = ""\napi_key = "sk-2"\n', no_key)
    assert problems(own_server + '[ai.profiles.sales]\nbase_url = ""\n', no_key) == [
        "ai.profiles.sales.api_key is missing: set it in test.toml under [ai.profiles.sales]"
    ]
    assert problems('[ai.profiles.sales]\napi_key = ""\n') == [
        "ai.profiles.sales.api_key is missing: set it in test.toml under [ai.profiles.sales]"
    ]
    webhook = {"REPLYD_SERVER__ROLE": "webhook"}
    read('[ai.profiles.sales]\napi_key = ""\n', webhook)


def test_a_missing_key_is_named_once() -> None:
    toml = '[ai.profiles.sales]\nmodel = "m-2"\n[ai.profiles.help]\n'
    (problem,) = problems(toml, {"OPENAI_API_KEY": ""})
    assert problem.startswith("ai.api_key is missing")
    (problem,) = problems(toml, {"OPENAI_API_KEY": "env:NONE"})
    assert problem.startswith("ai.api_key in environment variable OPENAI_API_KEY is wrong")


# --- tools and prices --------------------------------------------------------------------------


def test_tools() -> None:
    settings = read(
        FIND
        + '[tools.cancel]\ndescription = "Cancels."\npython = "shop.orders:cancel"\neffects = 1\n'
        + f"parameters = '{json.dumps(ORDER)}'\n"
        + '[ai]\ntools = ["find", "hand_over", "find"]\n[ai.profiles.sales]\ntools = ["cancel"]\n'
    )
    find, cancel = settings.tools["find"], settings.tools["cancel"]
    assert (find.url, find.method, find.effects) == (
        "https://shop.example.com/find?by=number",
        "POST",
        False,
    )
    assert find.parameters == {"type": "object", "properties": {}}
    assert (cancel.python, cancel.effects, cancel.parameters) == ("shop.orders:cancel", True, ORDER)
    assert settings.ai.tools == ("find", "hand_over")
    assert settings.ai.profile("sales").tools == ("cancel",)


def test_tools_and_prices_of_the_environment() -> None:
    environ = {
        "REPLYD_TOOLS__FIND__METHOD": "GET",
        "REPLYD_TOOLS__FIND__PARAMETERS": json.dumps(ORDER),
        "REPLYD_AI__TOOLS": "hand_over, find",
        "REPLYD_PRICES": json.dumps({"m-1.5": {"input": 1, "output": 2}}),
        "REPLYD_PRICES__M__INPUT": "0.5",
        "REPLYD_PRICES__M__OUTPUT": "0",
    }
    settings = read(FIND, environ)
    assert (settings.tools["find"].method, settings.tools["find"].parameters) == ("GET", ORDER)
    assert settings.ai.tools == ("hand_over", "find")
    assert settings.prices["m-1.5"] == Price(input=1, cached_input=1, output=2)
    assert settings.prices["m"].cached_input == 0.5
    whole = json.dumps({"other": {"description": "Other.", "python": "a.b:c"}})
    assert set(read(FIND, {"REPLYD_TOOLS": whole}).tools) == {"other"}


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            '[tools.find]\nurl = "https://x.example.com"',
            "tools.find.description is missing: set it in test.toml under [tools.find]",
        ),
        (
            "[prices.m]\ninput = 1",
            "prices.m.output is missing: set it in test.toml under [prices.m",
        ),
        ('[prices."m-1.5"]\ninput = -1\noutput = 1', 'prices."m-1.5".input in test.toml is wrong'),
        (
            '[tools.hand_over]\ndescription = "x"\nurl = "https://x.example.com"',
            "tools.hand_over in test.toml is wrong: it must be named by 1 to 64 of",
        ),
        (
            '[tools."a b"]\ndescription = "x"\nurl = "https://x.example.com"',
            'tools."a b" in test.toml is wrong: it must be named by 1 to 64 of A-Z a-z 0-9 _ -',
        ),
        (f'{FIND}python = "a:b"', "tools.find must have one of python and url, and has both"),
        (
            '[tools.find]\ndescription = "x"',
            "tools.find must have one of python and url, and has neither",
        ),
        (
            f'[tools.find]\ndescription = "x"\npython = "{SECRET}"',
            "tools.find.python in test.toml is wrong: it must be a module and a function in it",
        ),
        (
            f'[tools.find]\ndescription = "x"\nurl = "https://u:{SECRET}@x"',
            "tools.find.url in test.toml is wrong: it must be a URL without a user name",
        ),
        (f'{FIND}parameters = "{SECRET}"', "tools.find.parameters in test.toml is wrong: it must"),
        (f'{FIND}parameters = ["{SECRET}"]', "tools.find.parameters in test.toml is wrong: it mu"),
        (f'{FIND}parameters = {{ type = "{SECRET}" }}', "tools.find.parameters in test.toml is w"),
        (f'{FIND}headers = {{ "{SECRET} x" = "y" }}', "tools.find.headers in test.toml is wrong"),
        (f'{FIND}headers = {{ a = ["{SECRET}"] }}', "tools.find.headers in test.toml is wrong: it"),
        (f'{FIND}heades = "{SECRET}"', "tools.find.heades in test.toml is an unknown setting: di"),
        ('tools = "x"', "tools in test.toml must be a section: write [tools]"),
    ],
)
def test_problems_of_tools_and_prices(toml: str, expected: str) -> None:
    (problem,) = problems(toml)
    assert problem.startswith(expected)


def test_all_problems_of_a_table_are_named_at_once() -> None:
    found = problems("[tools.find]\nurl = 1\nmethod = 'PUT'\neffects = 'perhaps'\n[prices.m]\n")
    assert [problem.split()[0] for problem in found] == [
        "tools.find.description",
        "tools.find.url",
        "tools.find.method",
        "tools.find.effects",
        "prices.m.input",
        "prices.m.output",
    ]


ODD: list[object] = [-1.5, [SECRET], [[SECRET]], {SECRET: SECRET}, {SECRET: [1]}, {}]


@pytest.mark.parametrize("at", sorted(_every_setting()), ids=".".join)
def test_no_value_is_repeated_and_none_breaks_the_reading(at: Location) -> None:
    variable = f"REPLYD_{'__'.join(at)}".upper()
    # What is said of a key that is unknown, or of a table, has its name.
    name = "\n" if isinstance(schema.at(at), FieldInfo) else dotted(*at, SECRET)
    for text in (SECRET, "", *map(json.dumps, ODD)):
        assert SECRET not in _complaint({variable: text}).replace(name, "")


def _complaint(environ: Mapping[str, str]) -> str:
    try:
        load(None, environ, require_serving=False)
    except ConfigError as error:
        return str(error)
    return ""


# --- agreement ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            '[ai]\nbackend = "assistants"',
            (
                'ai.assistant_id is missing: ai.backend "assistants" needs the id of the '
                "assistant that answers (ai.assistant_id by default, ai.backend from test.toml)"
            ),
        ),
        (
            '[ai.profiles.old]\nbackend = "assistants"',
            "ai.profiles.old.assistant_id is missing: ",
        ),
        (
            f'[ai.profiles.a]\nfallback = "{SECRET}"',
            "ai.profiles.a.fallback must be the name of a profile: known are a",
        ),
        ('[ai]\nfallback = "a"', "ai.fallback must be the name of a profile: there are none, add"),
        (
            (
                '[ai.profiles.a]\nfallback = "b"\n[ai.profiles.b]\nfallback = "c"\n'
                '[ai.profiles.c]\nfallback = "b"\n'
            ),
            "ai.profiles.b.fallback leads back to its own profile, by way of b, c: make fallback",
        ),
        (
            '[ai.profiles.a]\nfallback = "a"\n',
            "ai.profiles.a.fallback leads back to its own profile, by way of a: ",
        ),
        (
            '[ai.assistants.map]\nasst_1 = "a"\nasst_2 = "b"\n[ai.profiles.b]',
            "ai.assistants.map leads 1 of its assistants to profiles that do not exist: known are",
        ),
        (
            f'{FIND}[ai]\ntools = ["{SECRET}"]',
            "ai.tools has 1 that do not exist: known are hand_over, find; add [tools.<name>]",
        ),
        (
            f'[ai.profiles.a]\ntools = ["hand_over", "{SECRET}"]',
            "ai.profiles.a.tools has 1 that do not exist: known are hand_over; add",
        ),
        (
            (
                '[ai]\nfallback_text = "Later."\non_empty = "text"\n'
                '[ai.profiles.a]\nfallback_text = ""'
            ),
            (
                'ai.profiles.a.fallback_text is missing: ai.profiles.a.on_empty "text" sends it to '
                "the customer (ai.profiles.a.fallback_text from test.toml, ai.on_empty from test."
            ),
        ),
        (
            f"{FIND}effects = true\ntimeout_seconds = 50",
            (
                "tools.find.timeout_seconds (50) and twilio.timeout_seconds (10) must together be "
                "shorter than turn.lease_seconds (60)"
            ),
        ),
        (
            (
                '[limits]\nday_dollars = 1\n[ai]\nmodel = "m"\n[prices.m]\ninput = 1\noutput = 1\n'
                f'[ai.profiles.a]\nmodel = "{SECRET}"'
            ),
            "limits.day_dollars needs the price of ai.profiles.a.model: add it under [prices.",
        ),
        (
            "[limits]\nconversation_dollars = 1\n",
            "limits.conversation_dollars needs the price of ai.model: add it under [prices.",
        ),
    ],
)
def test_what_must_agree(toml: str, expected: str) -> None:
    (problem,) = problems(toml)
    assert problem.startswith(expected)


def test_tools_without_effects_may_take_longer() -> None:
    read(f"{FIND}timeout_seconds = 50")


def test_what_agrees() -> None:
    read('[ai]\nassistant_id = "asst_1"\n[ai.profiles.old]\nbackend = "assistants"')
    read(
        '[limits]\nday_dollars = 1\n[ai]\nmodel = "m"\n[ai.profiles.a]\n'
        "[prices.m]\ninput = 1\noutput = 1"
    )
    read('[limits]\nat_limit = "text"\ntext = "Tomorrow."\n[moderation]\ninput = "handoff"')


def test_what_follows_from_another_problem_is_not_said() -> None:
    (problem,) = problems(
        f'[ai]\nfallback_text = "{"x" * 1601}"\non_empty = "text"\n'
        '[ai.profiles.a]\non_refused = "text"\n'
    )
    assert problem == "ai.fallback_text in test.toml is wrong: it must be at most 1600 characters"
    (problem,) = problems('[ai]\ntools = ["find"]\n[tools.find]\npython = "a:b"\n')
    assert problem.startswith("tools.find.description is missing")


def test_a_model_that_is_built_in_code_is_checked_too() -> None:
    with pytest.raises(ValidationError, match="must have one of python and url"):
        Settings(tools={"find": Tool(description="Finds.")})
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"tools": {"find": {"headers": {"a": [SECRET]}}}})
    assert SECRET not in str(caught.value)
