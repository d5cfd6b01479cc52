"""Where settings come from, and what is said about wrong ones."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from replyd.errors import ConfigError
from replyd.settings import Queues, Settings, Turn, Window, load

SERVICE = "MG" + "0" * 32
TEMPLATE = {"SENDING__TEMPLATE_SID": "HX" + "0" * 32}
SID = "AC0123456789abcdef0123456789abcdef"
OTHER_SID = "ACfedcba9876543210fedcba9876543210"
SECRET = "s3cret-value"

SERVING = {
    "REPLYD_SERVER__PUBLIC_URL": "https://hooks.example.com",
    "REPLYD_QUEUES__REPLIES_URL": "https://sqs.example.com/1/replies",
    "REPLYD_QUEUES__HANDOFF_URL": "https://sqs.example.com/1/handoff",
    "REPLYD_CONVERSATIONS__TABLE": "conversations",
    "OPENAI_API_KEY": "sk-1",
    "TWILIO_ACCOUNT_SID": SID,
    "TWILIO_AUTH_TOKEN": "token-1",
}


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(
    environ: Mapping[str, str],
    *,
    toml: str = "",
    overrides: Mapping[str, str] | None = None,
    require_serving: bool = False,
) -> list[str]:
    path = Path("test.toml")
    path.write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(path, environ, overrides, require_serving=require_serving)
    found = list(caught.value.problems)
    assert all("\n" not in problem for problem in found)
    assert SECRET not in "".join(found)
    return found


def tokens(settings: Settings) -> dict[str, list[str]]:
    return {
        sid: [token.get_secret_value() for token in each]
        for sid, each in settings.twilio.accounts.items()
    }


# --- sources -----------------------------------------------------------------------------------


def test_defaults() -> None:
    settings = load(None, SERVING)
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8080)
    assert (settings.ops.host, settings.ops.port) == ("127.0.0.1", 9090)
    assert settings.conversations.partition_key == "recipient_tel"
    assert settings.conversations.sort_key == "conversation_id"
    assert (settings.window.quiet_seconds, settings.window.max_wait_seconds) == (5, 30)
    assert settings.turn.lease_seconds == 60
    assert settings.ai.backend == "responses"
    assert settings.ai.api_key.get_secret_value() == "sk-1"
    assert tokens(settings) == {SID: ["token-1"]}
    assert isinstance(settings.window.quiet_seconds, float)


def test_each_source_wins_over_the_one_before() -> None:
    Path("config").mkdir()
    Path("config/replyd.toml").write_text("[window]\nquiet_seconds = 6\nmax_wait_seconds = 31\n")
    assert load(None, SERVING).window.quiet_seconds == 6
    environ = {**SERVING, "REPLYD_WINDOW__QUIET_SECONDS": "7"}
    assert load(None, environ).window.quiet_seconds == 7
    settings = load(None, environ, {"window.quiet_seconds": "8"})
    assert settings.window.quiet_seconds == 8
    assert settings.window.max_wait_seconds == 31


def test_standard_variables_and_the_names_that_win_over_them() -> None:
    environ = {**SERVING, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1/", "AWS_DEFAULT_REGION": "x-1"}
    settings = load(None, environ)
    assert settings.ai.base_url == "http://127.0.0.1:1/v1"
    assert settings.aws.region == "x-1"
    environ |= {"AWS_REGION": "y-1"}
    assert load(None, environ).aws.region == "y-1"
    environ |= {"REPLYD_AWS__REGION": "z-1", "REPLYD_AI__API_KEY": "sk-2"}
    settings = load(None, environ)
    assert settings.aws.region == "z-1"
    assert settings.ai.api_key.get_secret_value() == "sk-2"


def test_other_variables_are_none_of_our_business() -> None:
    load(None, {**SERVING, "REPLYD_HOME": "x", "REPLYD_": "y", "OTHER__KEY": "z"})


def test_lists_and_tables_in_the_environment() -> None:
    environ = {
        **SERVING,
        "REPLYD_TWILIO__ACCOUNTS": json.dumps({OTHER_SID: ["new", "old"], SID: "only"}),
        "REPLYD_OPT_OUT__STOP_WORDS": "halt, stop",
        "REPLYD_OPT_OUT__START_WORDS": '["go on"]',
    }
    settings = load(None, environ)
    assert tokens(settings) == {OTHER_SID: ["new", "old"], SID: ["only"]}
    assert settings.opt_out.stop_words == ("HALT", "STOP")
    assert settings.opt_out.start_words == ("GO ON",)


def test_what_did_not_arrive_is_always_recorded() -> None:
    environ = {**SERVING, "REPLYD_DELIVERY__RECORD": "sent"}
    assert load(None, environ).delivery.record == ("sent", "undelivered", "failed")


def test_an_empty_variable_leaves_an_optional_setting_alone() -> None:
    environ = {**SERVING, "REPLYD_TURN__WATCHDOG_SECONDS": "", "OPENAI_BASE_URL": ""}
    assert load(None, environ).watchdog_seconds == 15


@pytest.mark.parametrize(
    ("in_file", "expected"),
    [
        ("", {SID: ["token-1"]}),
        (f'{OTHER_SID} = "x"', {OTHER_SID: ["x"], SID: ["token-1"]}),
        (f'{SID} = ["old"]', {SID: ["token-1", "old"]}),
        (f'{SID} = ["newer", "token-1"]', {SID: ["token-1", "newer"]}),
        (f'{SID} = ["b", "c"]', {SID: ["token-1", "b"]}),
    ],
)
def test_the_account_of_the_environment_comes_first(
    in_file: str, expected: dict[str, list[str]]
) -> None:
    path = Path("replyd.toml")
    path.write_text(f"[twilio.accounts]\n{in_file}\n")
    assert tokens(load(path, SERVING)) == expected


def test_zero_switches_a_limit_off() -> None:
    Path("off.toml").write_text("[limits]\nloop_turns = 0\n")
    limits = load(Path("off.toml"), SERVING | {"REPLYD_LIMITS__LOOP_REPEATS": "0"}).limits
    assert (limits.loop_turns, limits.loop_repeats) == (None, None)
    limits = load(None, SERVING).limits
    assert (limits.loop_turns, limits.loop_repeats) == (20, 6)


def test_nothing_is_required_of_commands_that_do_not_serve() -> None:
    settings = load(None, {}, require_serving=False)
    assert settings.queues.replies_url == ""


def test_another_model_server_may_do_without_a_key() -> None:
    environ = {k: v for k, v in SERVING.items() if k != "OPENAI_API_KEY"}
    load(None, {**environ, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})


# --- derived values ----------------------------------------------------------------------------


def test_what_absent_numbers_mean() -> None:
    settings = Settings(turn=Turn(lease_seconds=60))
    assert settings.visibility_seconds == 30
    assert settings.heartbeat_seconds == 10
    assert settings.watchdog_seconds == 15
    short = Settings(turn=Turn(lease_seconds=21))
    assert short.visibility_seconds == 21
    assert settings.concurrency_per_business == 50
    assert Settings(turn=Turn(concurrency=1)).concurrency_per_business == 1
    assert Settings(turn=Turn(concurrency_per_business=7)).concurrency_per_business == 7
    given = Settings(queues=Queues(visibility_seconds=12, heartbeat_seconds=5))
    assert (given.visibility_seconds, given.heartbeat_seconds) == (12, 5)


# --- problems ----------------------------------------------------------------------------------


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    where = "set it in config/replyd.toml under"
    twilio = "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"
    table = "REPLYD_CONVERSATIONS__TABLE"
    assert caught.value.problems == (
        f"server.public_url is missing: {where} [server] or as REPLYD_SERVER__PUBLIC_URL",
        f"queues.replies_url is missing: {where} [queues] or as REPLYD_QUEUES__REPLIES_URL",
        f"queues.handoff_url is missing: {where} [queues] or as REPLYD_QUEUES__HANDOFF_URL",
        f"conversations.table is missing: {where} [conversations] or as {table}",
        f"ai.api_key is missing: {where} [ai] or as OPENAI_API_KEY",
        f"twilio.accounts is missing: {where} [twilio.accounts] or as {twilio}",
    )


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[server]\nprot = 1", "server.prot in test.toml is an unknown setting: did you mean "),
        ("[sever]\nport = 1", "sever in test.toml is an unknown section: did you mean server?"),
        ("port = 1", "port in test.toml is an unknown section"),
        ("server = 1", "server in test.toml must be a section: write [server]"),
        ("[server]\nport = 'x'", "server.port in test.toml is wrong: it must be a whole number"),
        ("[server]\nport = 70000", "server.port in test.toml is wrong: it must be at most 65535"),
        ("[server", "test.toml is not valid TOML: "),
    ],
)
def test_problems_of_a_file(toml: str, expected: str) -> None:
    (problem,) = problems({}, toml=toml)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SERVER__PROT", SECRET, "server.prot in environment variable REPLYD_SERVER__PROT is an"),
        ("X__Y__Z", SECRET, "x.y.z in environment variable REPLYD_X__Y__Z is an unknown setting"),
        ("SERVER__PORT", SECRET, "it must be a whole number"),
        ("SERVER__MAX_INFLIGHT", "0", "it must be at least 1"),
        ("SERVER__PUBLIC_URL", f"https://{SECRET}/path", "must be an origin such as"),
        ("SERVER__PUBLIC_URL", f"https://{SECRET}?x", "must be an origin such as"),
        ("SERVER__PUBLIC_URL", f"https://u:{SECRET}@host", "without a user name and password"),
        ("SERVER__PUBLIC_URL", "https://my_host", "has an underscore in its host name"),
        ("SERVER__PUBLIC_URL", "hooks.example.com", "must be a URL that begins with https://"),
        ("SERVER__PUBLIC_URL", "https://host:port", "must be a URL with a valid host and port"),
        ("QUEUES__REPLIES_URL", "https://sqs/1/a.fifo", "FIFO queues take no delay per message"),
        ("QUEUES__WAIT_SECONDS", "21", "it must be at most 20"),
        ("CONVERSATIONS__TABLE", "a b", "must be the name of a table"),
        ("WINDOW__QUIET_SECONDS", "nan", "it must be a number"),
        ("WINDOW__QUIET_SECONDS", "-1", "it must be at least 0"),
        ("AI__BACKEND", "magic", "it must be 'responses', 'assistants' or 'chat'"),
        ("AI__TOOLS", '["', "it must be JSON"),
        ("LIMITS__LOOP_TURNS", "-1", "it must be at least 1"),
        ("TURN__CONCURRENCY_PER_BUSINESS", "0", "it must be at least 1"),
        ("AI__MODEL", "", "it must not be empty"),
        ("TWILIO__ACCOUNTS", SECRET, "it must be JSON"),
        ("TWILIO__ACCOUNTS", f'"{SECRET}"', "it must be account SIDs with their tokens"),
        ("TWILIO__ACCOUNTS", json.dumps({SECRET: "x"}), "each account is named by its SID"),
        ("TWILIO__ACCOUNTS", json.dumps({SID: [SECRET] * 3}), "takes one token, or a list of two"),
        ("TWILIO__ACCOUNTS", json.dumps({SID: []}), "takes one token, or a list of two"),
        ("TWILIO__ACCOUNTS", json.dumps({SID: ""}), "takes one token, or a list of two"),
        ("OPT_OUT__STOP_WORDS", "", "it must not be empty"),
        ("DELIVERY__RECORD", "lost", "it must be 'sent', 'delivered', 'read', 'undelivered' or"),
        ("LOGGING__LEVEL", "LOUD", "it must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("LOGGING__BODIES", "perhaps", "it must be true or false"),
        ("AWS__REGION", "EU west", "must be the name of a region"),
        ("SENDING__TEMPLATE_SID", "HX1", "must be the SID of a content template"),
        ("SENDING__TEMPLATE_VARIABLES", '{"a b": "{text}"}', "must have names of 1 to 16"),
        ("SENDING__OUTSIDE_WINDOW", "text", "it must be 'handoff' or 'template'"),
        ("TWILIO__MESSAGING_SERVICES", f'{{"x": "{SERVICE}"}}', "must be named by business num"),
        ("TWILIO__MESSAGING_SERVICES", '{"+447700900100": "MG1"}', "must be SIDs of Messaging"),
    ],
)
def test_problems_of_the_environment(name: str, value: str, expected: str) -> None:
    (problem,) = problems({f"REPLYD_{name}": value})
    assert expected in problem
    assert f"environment variable REPLYD_{name}" in problem


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"SENDING__OUTSIDE_WINDOW": "template"},
            "sending.template_sid must name a template when sending.outside_window is template",
        ),
        (
            TEMPLATE | {"SENDING__TEMPLATE_VARIABLES": '{"1": "{name}"}'},
            "sending.template_variables must have {text} in exactly one variable",
        ),
        (
            TEMPLATE | {"SENDING__TEMPLATE_VARIABLES": '{"1": "{text}", "2": "{text}"}'},
            "sending.template_variables must have {text} in exactly one variable",
        ),
        (
            TEMPLATE | {"SENDING__TEMPLATE_VARIABLES": f'{{"1": "{{text}}{"x" * 801}"}}'},
            "sending.template_variables must leave 100 of 900 characters to the answer",
        ),
        (
            {"WINDOW__QUIET_SECONDS": "40"},
            "window.quiet_seconds (40) must not be longer than window.max_wait_seconds (30)",
        ),
        ({"WINDOW__MAX_WAIT_SECONDS": "901"}, "window.max_wait_seconds (901) must be at most 900"),
        (
            {"TURN__LEASE_SECONDS": "19", "TWILIO__TIMEOUT_SECONDS": "5"},
            "turn.lease_seconds (19) must be at least 20",
        ),
        (
            {"TURN__WATCHDOG_SECONDS": "50"},
            "turn.watchdog_seconds (50) and twilio.timeout_seconds (10) must together be shorter",
        ),
        (
            {"TURN__GIVE_UP_AFTER_SECONDS": "82"},
            "turn.give_up_after_seconds (82) must be longer than turn.lease_seconds",
        ),
        (
            {"QUEUES__VISIBILITY_SECONDS": "61"},
            "queues.visibility_seconds (61) must be at most turn.lease_seconds (60)",
        ),
        (
            {"QUEUES__HEARTBEAT_SECONDS": "30"},
            "queues.heartbeat_seconds (30) must be shorter than queues.visibility_seconds (30)",
        ),
        (
            {"QUEUES__REPLIES_URL": "http://q/1/a", "QUEUES__HANDOFF_URL": "http://q/1/a"},
            "queues.handoff_url and queues.replies_url must be two queues",
        ),
        ({"OPS__PORT": "8080"}, "ops.port and server.port (8080) must differ"),
        ({"UNKNOWN_SENDER__POLICY": "notify"}, "unknown_sender.notice_text is missing"),
        ({"OPT_OUT__START_WORDS": "Stop"}, "opt_out.start_words and opt_out.stop_words share 1"),
        ({"VOICE__WAIT_SECONDS": "180"}, "voice.wait_seconds (180) must be shorter than turn.give"),
        ({"MEDIA__TIMEOUT_SECONDS": "180"}, "media.timeout_seconds (180) must be shorter than"),
        (
            {"LIMITS__DAY_TOKENS": "1999"},
            "limits.reserve_tokens (2000) must be at most limits.day_tokens (1999)",
        ),
        (
            {"LIMITS__CONVERSATION_TOKENS": "1999"},
            "limits.reserve_tokens (2000) must be at most limits.conversation_tokens (1999)",
        ),
        (
            {"LIMITS__AT_LIMIT": "text"},
            'limits.text is missing: limits.at_limit "text" sends it to the customer',
        ),
        (
            {"MODERATION__OUTPUT": "text"},
            'moderation.text is missing: moderation.output "text" sends it to the customer',
        ),
        ({"HISTORY__SEEN_DAYS": "14"}, "history.seen_days (14) must be more than 14"),
        ({"RETENTION__RECORD_DAYS": "90"}, "retention.archive_days is missing"),
        (
            {"RETENTION__RECORD_DAYS": "14", "RETENTION__ARCHIVE_DAYS": "14"},
            "retention.record_days (14) must be at least history.seen_days",
        ),
        (
            {"CONVERSATIONS__SORT_KEY": "recipient_tel"},
            "conversations.sort_key and conversations.partition_key must be two attributes",
        ),
    ],
)
def test_numbers_that_must_agree(environ: dict[str, str], expected: str) -> None:
    (problem,) = problems({f"REPLYD_{name}": value for name, value in environ.items()})
    assert problem.startswith(expected)
    assert "environment variable REPLYD_" in problem


def test_a_model_that_is_built_in_code_is_checked_too() -> None:
    with pytest.raises(ValidationError, match=r"window.quiet_seconds \(40\)"):
        Settings(window=Window(quiet_seconds=40))


def test_free_ports_do_not_collide() -> None:
    load(None, {**SERVING, "REPLYD_SERVER__PORT": "0", "REPLYD_OPS__PORT": "0"})


def test_one_line_for_each_of_many_problems() -> None:
    found = problems(
        {
            "REPLYD_SERVER__PORT": SECRET,
            "REPLYD_AI__API_KEYS": SECRET,
            "REPLYD_WINDOW__QUIET_SECONDS": "40",
        },
        overrides={"ops.port": "many", "ops.prot": "1"},
        require_serving=True,
    )
    starts = [problem.split()[0] for problem in found]
    assert starts == [
        "ai.api_keys",
        "ops.prot",
        "server.port",
        "ops.port",
        "server.public_url",
        "queues.replies_url",
        "queues.handoff_url",
        "conversations.table",
        "ai.api_key",
        "twilio.accounts",
        "window.quiet_seconds",
    ]
    assert "ops.port in the command line is wrong: it must be a whole number" in found


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TWILIO_ACCOUNT_SID": SID}, "TWILIO_ACCOUNT_SID is set and TWILIO_AUTH_TOKEN is not"),
        ({"TWILIO_AUTH_TOKEN": SECRET}, "TWILIO_AUTH_TOKEN is set and TWILIO_ACCOUNT_SID is not"),
        (
            {"TWILIO_ACCOUNT_SID": SECRET, "TWILIO_AUTH_TOKEN": SECRET},
            "TWILIO_ACCOUNT_SID must be an account's SID",
        ),
    ],
)
def test_half_an_account(environ: dict[str, str], expected: str) -> None:
    (problem,) = problems(environ)
    assert expected in problem


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist"):
        load(Path("nowhere.toml"), SERVING)


def test_a_file_that_is_no_text() -> None:
    Path("bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(Path("bad.toml"), SERVING)


def test_a_directory_is_no_file() -> None:
    Path("config.d").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("config.d"), SERVING)


def test_settings_show_no_secret() -> None:
    settings = load(
        None,
        {
            **SERVING,
            "OPENAI_API_KEY": SECRET,
            "REPLYD_TWILIO__ACCOUNTS": json.dumps({SID: [SECRET, SECRET + "2"]}),
        },
    )
    shown = f"{settings!r} {settings} {settings.twilio!r} {settings.model_dump_json()}"
    assert SECRET not in shown


def test_direct_construction_does_not_quote_its_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"twilio": {"accounts": {SID: [SECRET] * 3}}})
    assert SECRET not in str(caught.value)
