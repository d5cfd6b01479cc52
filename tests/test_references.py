"""Secrets that lie elsewhere: where they are found, and what is said when they are not."""

from pathlib import Path

import pytest

from replyd.errors import ConfigError
from replyd.settings import Settings, load
from replyd.settings.references import MAX_BYTES

SID = "AC0123456789abcdef0123456789abcdef"
SERVING = {
    "REPLYD_SERVER__PUBLIC_URL": "https://hooks.example.com",
    "REPLYD_QUEUES__REPLIES_URL": "https://sqs.example.com/1/replies",
    "REPLYD_QUEUES__HANDOFF_URL": "https://sqs.example.com/1/handoff",
    "REPLYD_CONVERSATIONS__TABLE": "conversations",
    "OPENAI_API_KEY": "sk-1",
    "TWILIO_ACCOUNT_SID": SID,
    "TWILIO_AUTH_TOKEN": "token-1",
}
SECRET = "s3cret-value"


def _key(settings: Settings) -> str:
    return settings.ai.api_key.get_secret_value()


def _tokens(settings: Settings) -> list[str]:
    return [token.get_secret_value() for token in settings.twilio.accounts[SID]]


def _problem(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, SERVING | environ)
    (problem,) = caught.value.problems
    assert SECRET not in problem
    assert "\n" not in problem
    return problem


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    assert _key(load(None, SERVING | {"OPENAI_API_KEY": f"file:{tmp_path}/key"})) == SECRET


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    reference = "file:$CREDENTIALS_DIRECTORY/token"
    environ = {"TWILIO_AUTH_TOKEN": reference, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert _tokens(load(None, SERVING | environ)) == [SECRET]


def test_an_environment_variable() -> None:
    environ = {"REPLYD_AI__API_KEY": "env:OUR_KEY", "OUR_KEY": SECRET}
    assert _key(load(None, SERVING | environ)) == SECRET


def test_in_the_configuration_file_and_in_lists(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("token-0")
    path = tmp_path / "replyd.toml"
    path.write_text(f'[twilio.accounts]\n{SID} = ["env:NEW", "file:{tmp_path}/old"]\n')
    environ = SERVING | {"NEW": SECRET, "TWILIO_AUTH_TOKEN": "", "TWILIO_ACCOUNT_SID": ""}
    assert _tokens(load(path, environ)) == [SECRET, "token-0"]
    path.write_text(f'[twilio.accounts]\n{SID} = "env:NEW"\n')
    assert _tokens(load(path, environ)) == [SECRET]


def test_in_profiles_and_tools(tmp_path: Path) -> None:
    path = tmp_path / "replyd.toml"
    path.write_text(
        """
        [ai]
        identifier_key = "env:NEW"
        [ai.profiles.sales]
        api_key = "env:NEW"
        [ai.profiles.help]
        [tools.find]
        description = "Finds."
        url = "https://shop.example.com/find"
        headers = { Authorization = "env:NEW", X-Plain = "plain" }
        """
    )
    settings = load(path, SERVING | {"NEW": SECRET, "OPENAI_API_KEY": "env:OTHER", "OTHER": "sk-2"})
    assert settings.ai.identifier_key.get_secret_value() == SECRET
    assert settings.ai.profile("sales").api_key.get_secret_value() == SECRET
    assert settings.ai.profile("help").api_key.get_secret_value() == "sk-2"
    headers = settings.tools["find"].headers
    assert headers["Authorization"].get_secret_value() == SECRET
    assert headers["X-Plain"].get_secret_value() == "plain"
    assert SECRET not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("REPLYD_AI__PROFILES__SALES__API_KEY", "ai.profiles.sales.api_key"),
        ("REPLYD_AI__IDENTIFIER_KEY", "ai.identifier_key"),
        ("REPLYD_VOICE__API_KEY", "voice.api_key"),
    ],
)
def test_what_need_not_be_set_must_lead_somewhere_when_it_is(variable: str, setting: str) -> None:
    environ = {variable: "env:NONE"}
    assert _problem(**environ) == (
        f"{setting} in environment variable {variable} is wrong: "
        "it refers to the environment variable NONE, which is not set or empty"
    )
    load(None, SERVING | environ | {"REPLYD_SERVER__ROLE": "webhook"})
    load(None, SERVING | environ, require_serving=False)


def test_other_settings_hold_no_references() -> None:
    environ = {"REPLYD_AI__INSTRUCTIONS": "env:OUR_KEY", "OUR_KEY": SECRET}
    assert load(None, SERVING | environ).ai.instructions == "env:OUR_KEY"


def test_what_leads_nowhere_is_named(tmp_path: Path) -> None:
    missing = f"{tmp_path}/missing"
    problem = _problem(OPENAI_API_KEY=f"file:{missing}")
    assert problem == (
        "ai.api_key in environment variable OPENAI_API_KEY is wrong: "
        f"{missing} cannot be read: No such file or directory"
    )
    problem = _problem(TWILIO_AUTH_TOKEN="env:OUR_TOKEN")
    assert problem == (
        "twilio.accounts in environment variable TWILIO_AUTH_TOKEN is wrong: "
        "it refers to the environment variable OUR_TOKEN, which is not set or empty"
    )
    problem = _problem(OPENAI_API_KEY="file:$CREDENTIALS_DIRECTORY/key")
    assert "CREDENTIALS_DIRECTORY is not set" in problem
    assert "LoadCredential=" in problem


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b" \n", "empty"),
        (b"\xff\xfe" + SECRET.encode(), "UTF-8"),
        (SECRET.encode() * MAX_BYTES, "bytes"),
    ],
)
def test_a_file_that_holds_no_secret(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    problem = _problem(OPENAI_API_KEY=f"file:{tmp_path}/key")
    assert f"{tmp_path}/key" in problem
    assert word in problem


@pytest.mark.parametrize("reference", [f"file:{SECRET}", f"env:{SECRET}", "file:", "env:"])
def test_what_is_no_reference_is_not_repeated(reference: str) -> None:
    assert "must be followed by" in _problem(OPENAI_API_KEY=reference)


def test_a_directory(tmp_path: Path) -> None:
    assert "Is a directory" in _problem(OPENAI_API_KEY=f"file:{tmp_path}")


def test_commands_without_need_of_secrets_do_without() -> None:
    environ = SERVING | {"OPENAI_API_KEY": "env:NONE", "TWILIO_AUTH_TOKEN": "file:/nowhere"}
    settings = load(None, environ, require_serving=False)
    assert (_key(settings), settings.twilio.accounts) == ("", {})


def test_webhooks_need_no_key_of_the_model() -> None:
    environ = SERVING | {"OPENAI_API_KEY": "env:NONE", "REPLYD_SERVER__ROLE": "webhook"}
    assert _key(load(None, environ)) == ""
    assert "ai.api_key" in _problem(**environ | {"REPLYD_SERVER__ROLE": "worker"})
