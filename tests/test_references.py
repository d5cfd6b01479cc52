"""Secrets that lie elsewhere: where they are found, and what is said when they are not."""

import json
import socket
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from moto.server import ThreadedMotoServer

from replyd import cli
from replyd.bootstrap.secrets import look_up
from replyd.errors import ConfigError, DependencyDown, DependencyError, Permanent
from replyd.settings import Settings, load
from replyd.settings.references import MAX_BYTES, Found

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


# --- in Secrets Manager --------------------------------------------------------------------------

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:replyd/all-AbCdEf"
KEPT = {
    "replyd/plain": f" {SECRET}\n",
    ARN: json.dumps({"key": SECRET, "other": "0ther", "number": 7, "blank": " "}),
}


class Keeper:
    """Secrets Manager with `KEPT`, and what it was asked for."""

    def __init__(self, failure: DependencyError | None = None) -> None:
        self.failure = failure
        self.asked: list[tuple[list[str], str]] = []

    def __call__(self, names: Collection[str], region: str) -> Found:
        self.asked.append((sorted(names), region))
        missing = Permanent("secretsmanager", "does not exist")
        return {name: self.failure or KEPT.get(name) or missing for name in names}


def _problems(keeper: Keeper, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, SERVING | environ, look_up=keeper)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is caught.value.__context__ is None
    return list(caught.value.problems)


def test_every_secret_may_be_kept_and_each_is_asked_for_once(tmp_path: Path) -> None:
    path = tmp_path / "replyd.toml"
    path.write_text(
        f"""
        [aws]
        region = "eu-west-1"
        [ai]
        api_key = "secretsmanager:replyd/plain"
        identifier_key = "secretsmanager:{ARN}#key"
        [ai.profiles.sales]
        api_key = "secretsmanager:{ARN}#other"
        [voice]
        api_key = "secretsmanager:replyd/plain"
        [tools.find]
        description = "Finds."
        url = "https://shop.example.com/find"
        headers = {{ Authorization = "secretsmanager:{ARN}#key" }}
        [twilio.accounts]
        {SID} = ["secretsmanager:{ARN}#key", " secretsmanager:{ARN}#other "]
        """
    )
    unset = {"OPENAI_API_KEY": "", "TWILIO_ACCOUNT_SID": "", "TWILIO_AUTH_TOKEN": ""}
    keeper = Keeper()
    settings = load(path, SERVING | unset, look_up=keeper)
    assert keeper.asked == [([ARN, "replyd/plain"], "eu-west-1")]
    assert _key(settings) == SECRET
    assert _tokens(settings) == [SECRET, "0ther"]
    assert settings.ai.identifier_key.get_secret_value() == SECRET
    assert settings.ai.profile("sales").api_key.get_secret_value() == "0ther"
    assert settings.voice.api_key.get_secret_value() == SECRET
    assert settings.tools["find"].headers["Authorization"].get_secret_value() == SECRET
    assert SECRET not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("replyd/none", "it refers to the secret replyd/none, which does not exist"),
        (f"{ARN}#none", f"it refers to the text at the key none of the secret {ARN}, and"),
        (f"{ARN}#number", "there is none"),
        (f"{ARN}#blank", "there is none"),
        ("replyd/plain#key", "there is none"),
        ("", "must be followed by"),
        ("a secret", "must be followed by"),
        ("replyd/plain#", "must be followed by"),
    ],
)
def test_a_secret_that_is_not_there(reference: str, reason: str) -> None:
    environ = {"OPENAI_API_KEY": f"secretsmanager:{reference}"}
    (problem,) = _problems(Keeper(), **environ)
    assert problem.startswith("ai.api_key in environment variable OPENAI_API_KEY is wrong: ")
    assert reason in problem


def test_all_problems_come_at_once() -> None:
    problems = _problems(
        Keeper(),
        OPENAI_API_KEY="secretsmanager:replyd/none",
        TWILIO_AUTH_TOKEN="secretsmanager:replyd/nobody",
        REPLYD_WINDOW__QUIET_SECONDS="soon",
        REPLYD_VOICE__API_KEY="env:NONE",
    )
    named = [problem.partition(" ")[0] for problem in problems]
    assert sorted(named) == [
        "ai.api_key",
        "twilio.accounts",
        "voice.api_key",
        "window.quiet_seconds",
    ]


def test_when_it_cannot_be_asked_nothing_is_wrong_with_the_settings() -> None:
    keeper = Keeper(DependencyDown("secretsmanager", "cannot be reached"))
    environ = {"OPENAI_API_KEY": "secretsmanager:replyd/plain"}
    with pytest.raises(DependencyDown, match="cannot be reached"):
        load(None, SERVING | environ, look_up=keeper)
    (problem,) = _problems(keeper, **environ, REPLYD_WINDOW__QUIET_SECONDS="soon")
    assert problem.startswith("window.quiet_seconds")
    # Where it is may be what is wrong.
    (problem,) = _problems(keeper, **environ, AWS_REGION="Ireland!")
    assert problem.startswith("aws.region")


def test_what_is_not_needed_is_not_asked_for() -> None:
    keeper = Keeper()
    environ = SERVING | {"OPENAI_API_KEY": "secretsmanager:replyd/plain"}
    settings = load(None, environ, require_serving=False, look_up=keeper)
    assert _key(settings) == ""
    webhook = {"REPLYD_SERVER__ROLE": "webhook"}
    assert _key(load(None, environ | webhook, look_up=keeper)) == ""
    assert keeper.asked == []
    token = {"TWILIO_AUTH_TOKEN": "secretsmanager:replyd/plain"}
    assert _tokens(load(None, environ | webhook | token, look_up=keeper)) == [SECRET]
    load(None, SERVING, look_up=keeper)
    assert keeper.asked == [(["replyd/plain"], "")]


def test_no_reference_is_left_where_nobody_looks() -> None:
    environ = {"OPENAI_API_KEY": "secretsmanager:replyd/plain"}
    assert "nobody looked" in _problem(**environ)
    settings = load(None, SERVING | environ, require_serving=False)
    assert _key(settings) == ""


@pytest.mark.parametrize("inner", ["secretsmanager:replyd/plain", "env:OTHER", "file:/etc/key"])
def test_a_reference_leads_to_a_secret_and_not_to_a_reference(inner: str) -> None:
    problem = _problem(OPENAI_API_KEY="env:OURS", OURS=inner)
    assert "another reference" in problem
    assert inner not in problem


# --- the real one, on moto -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("secretsmanager", region_name="us-east-1", endpoint_url=url, **keys)
    client.create_secret(Name="references/openai", SecretString=json.dumps({"key": SECRET}))
    client.create_secret(Name="references/token", SecretString=SECRET)
    client.close()
    yield url
    server.stop()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there, and nobody else can take it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name, value in SERVING.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_all_are_looked_up_at_once(aws: pytest.MonkeyPatch) -> None:
    found = look_up(["references/openai", "references/token", "references/none"], "us-east-1")
    assert found["references/token"] == SECRET
    assert found["references/openai"] == json.dumps({"key": SECRET})
    missing = found["references/none"]
    assert isinstance(missing, Permanent)
    assert "does not exist" in missing.reason


def test_where_there_is_no_region_it_cannot_be_asked(aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_REGION")
    aws.setenv("AWS_CONFIG_FILE", "/dev/null")
    for region in ("", "no region!"):
        assert isinstance(look_up(["references/token"], region)["references/token"], DependencyDown)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_missing_secret_exits_78(
    command: str, aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.setenv("OPENAI_API_KEY", "secretsmanager:references/openai#none")
    aws.setenv("TWILIO_AUTH_TOKEN", "secretsmanager:references/none")
    assert cli.main([command]) == 78
    shown = "".join(capsys.readouterr())
    assert "key none of the secret references/openai" in shown
    assert "the secret references/none, which does not exist" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("command", ["serve", "check"])
def test_where_nobody_answers_it_exits_69(
    command: str,
    aws: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    closed_port: int,
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{closed_port}")
    aws.setenv("OPENAI_API_KEY", "secretsmanager:references/openai#key")
    assert cli.main([command]) == 69
    assert capsys.readouterr().err == "secretsmanager: cannot be reached\n"


class _Refuses(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(400)
        self.end_headers()
        self.wfile.write(b'{"__type": "ThrottlingException"}')

    def log_message(self, *_: object) -> None:
        pass


def test_where_it_throttles_it_exits_69(
    aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        aws.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{server.server_port}")
        aws.setenv("OPENAI_API_KEY", "secretsmanager:references/openai#key")
        assert cli.main(["serve"]) == 69
        server.shutdown()
    assert capsys.readouterr().err == "secretsmanager: throttles us\n"


def test_where_no_answer_comes_it_exits_69_in_time(
    aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.setattr("replyd.bootstrap.secrets.LOOKUP_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        aws.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{port}")
        aws.setenv("OPENAI_API_KEY", "secretsmanager:references/openai#key")
        assert cli.main(["serve"]) == 69
    assert capsys.readouterr().err == "secretsmanager: no answer within 0.5 s\n"


def test_commands_that_need_no_secret_ask_for_none(
    aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed_port: int
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{closed_port}")
    aws.setenv("OPENAI_API_KEY", "secretsmanager:references/openai#key")
    aws.setenv("REPLYD_OPS__PORT", str(closed_port))
    assert cli.main(["healthcheck"]) == 69
    assert "does not answer" in capsys.readouterr().err


# --- the accounts' secrets -----------------------------------------------------------------------

OTHER_SID = "AC" + "1" * 32
NO_TOKEN = {"TWILIO_ACCOUNT_SID": "", "TWILIO_AUTH_TOKEN": ""}


def test_accounts_by_secret_take_the_place_of_tokens() -> None:
    environ = {
        "REPLYD_TWILIO__SECRET_NAME": "replyd/twilio/{account_sid}",
        "REPLYD_TWILIO__ACCOUNT_SIDS": f"{OTHER_SID},{SID}",
    }
    settings = load(None, SERVING | NO_TOKEN | environ)
    assert settings.twilio.account_sids == (OTHER_SID, SID)
    assert settings.twilio.secret_of(SID) == f"replyd/twilio/{SID}"
    assert settings.twilio.accounts == {}


@pytest.mark.parametrize(
    ("name", "sids", "expected"),
    [
        ("", SID, "twilio.secret_name is missing: the accounts in twilio.account_sids have"),
        ("replyd/{account_sid}", "", "twilio.account_sids is missing: only the accounts in it"),
        ("one/for/all", f"{SID},{OTHER_SID}", "twilio.secret_name must have {account_sid} in it"),
        ("no spaces", SID, "is wrong: it must be a secret's name or ARN"),
        ("replyd/{sid}", SID, "is wrong: it must be a secret's name or ARN"),
        ("replyd/{account_sid}", "AC1", "each account is named by its SID"),
        ("replyd/{account_sid}", SID[:-1] + "x", "each account is named by its SID"),
    ],
)
def test_accounts_by_secret_that_do_not_fit(name: str, sids: str, expected: str) -> None:
    environ = NO_TOKEN | {
        "REPLYD_TWILIO__SECRET_NAME": name,
        "REPLYD_TWILIO__ACCOUNT_SIDS": sids,
        "REPLYD_TWILIO__ACCOUNTS": json.dumps({"AC" + "9" * 32: ["t"]}),
    }
    with pytest.raises(ConfigError) as caught:
        load(None, SERVING | environ)
    assert expected in caught.value.problems[0]


def test_an_account_has_its_token_in_one_place() -> None:
    environ = {
        "REPLYD_TWILIO__SECRET_NAME": "replyd/{account_sid}",
        "REPLYD_TWILIO__ACCOUNT_SIDS": SID,
    }
    assert "share 1 of their accounts" in _problem(**environ)
