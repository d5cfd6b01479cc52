"""`replyd check --offline`: all that can be known of settings without asking anybody."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from replyd.cli import main

SID = "AC" + "0" * 32
CONFIG = """
[server]
public_url = "https://hooks.example.com"

[queues]
replies_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/replyd-replies"
handoff_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/replyd-handoff"

[conversations]
table = "replyd-conversations"

[aws]
region = "eu-west-1"
"""
SECRETS = f"""
[ai]
model = "gpt-4o"
api_key = "secretsmanager:replyd/openai#api_key"

[ai.profiles.sales]
model = "gpt-6-sol"
api_key = "env:SALES_KEY"

[ops]
token = "file:$CREDENTIALS_DIRECTORY/ops_token"

[twilio.accounts]
{SID} = ["file:/run/secrets/twilio", "env:OTHER_TOKEN"]

[prices.gpt-4o]
input = 1
output = 2

[tools.find_order]
description = "Finds an order."
url = "https://shop.example.com/find"
headers = {{Authorization = "env:SHOP"}}
"""


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that knows no secret, and where nobody could be asked."""
    for name in ("OPENAI_API_KEY", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(
    capsys: pytest.CaptureFixture[str], config: str, *flags: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the rows by name."""
    Path("replyd.toml").write_text(config)
    code = main(["check", "--offline", "--json", "--config", "replyd.toml", *flags])
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code
    return code, {row["check"]: row for row in found["checks"]}


def test_references_are_checked_for_their_form_alone(capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = check(capsys, CONFIG + SECRETS)
    assert code == 0, rows
    assert list(rows) == [
        *("settings", "secrets", "public URL", "model", "model (profile sales)", "tools", "prices"),
    ]
    assert rows["secrets"] == {
        "check": "secrets",
        "state": "ok",
        "found": "not looked up, only the form of references is checked: ai.api_key, "
        "ai.profiles.sales.api_key, ops.token, "
        "twilio.accounts, tools.find_order.headers",
        "mend": "",
    }
    assert rows["model"]["found"] == "responses, gpt-4o: not asked"
    assert rows["model"]["state"] == "advice"
    assert "2027-01-14" in rows["model"]["mend"]
    assert rows["model (profile sales)"]["state"] == "ok"
    assert rows["tools"]["found"] == "1 in [tools]"
    assert rows["prices"]["found"] == "known for 1 of 2 models"


def test_credentials_that_are_not_there_are_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One half of an account is one that is missing.
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", SID)
    code, rows = check(capsys, CONFIG)
    assert code == 0
    assert rows["credentials"]["state"] == "advice"
    lines = rows["credentials"]["found"].splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["ai.api_key", "twilio.accounts"]
    assert "OPENAI_API_KEY" in lines[0]
    assert rows["secrets"]["found"] == "no setting refers to one"
    assert main(["check", "--json", "--config", "replyd.toml"]) == 78


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("[window]\nquiet = 3", "window.quiet in replyd.toml is an unknown setting: did you mean"),
        ("[windw]\nquiet_seconds = 3", "windw in replyd.toml is an unknown section"),
        ('[window]\nquiet_seconds = "soon"', "window.quiet_seconds in replyd.toml is wrong"),
        ("[window]\nquiet_seconds = 40", "must not be longer than window.max_wait_seconds"),
        ('[ai]\napi_key = "env:NOT A NAME"', "env: must be followed by the name of an environment"),
        ('[ai]\napi_key = "file:relative"', "file: must be followed by an absolute path"),
        ('[ai]\napi_key = "file:/a\\u0000"', "file: must be followed by a path without NUL"),
        ('[ai]\napi_key = "secretsmanager:#key"', "secretsmanager: must be followed by the name"),
        (f'[twilio.accounts]\n{SID} = ["env:"]', "twilio.accounts in replyd.toml is wrong: env:"),
        ('[ops]\ntoken = "short"', "ops.token in replyd.toml is wrong"),
        ('[tools.x]\ndescription = "X."\nurl = "ftp://x"', "tools.x.url in replyd.toml is wrong"),
        (
            '[tools.x]\ndescription = "X."\nurl = "https://x.example"\nparameters = {type = "odd"}',
            "tools.x.parameters in replyd.toml is wrong",
        ),
    ],
)
def test_what_is_wrong_fails_with_78_and_a_line(
    capsys: pytest.CaptureFixture[str], addition: str, problem: str
) -> None:
    code, rows = check(capsys, CONFIG + addition)
    assert code == 78
    (line,) = rows["settings"]["found"].splitlines()
    assert problem in line


def test_what_is_missing_and_no_credential_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = check(capsys, "[aws]\nregion = 'eu-west-1'")
    assert code == 78
    names = [line.partition(" ")[0] for line in rows["settings"]["found"].splitlines()]
    assert names == [
        *("server.public_url", "queues.replies_url", "queues.handoff_url", "conversations.table"),
    ]


def test_tools_modules_are_imported(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    (place / "shop_offline.py").write_text(
        "async def find(order: str, context: object) -> str:\n    return order\n"
    )
    tool = '[tools.{0}]\ndescription = "Finds."\npython = "shop_offline:{0}"\n'
    code, rows = check(capsys, CONFIG + tool.format("find") + tool.format("lose"))
    assert code == 78
    assert rows["tools"]["state"] == "failed"
    (line,) = rows["tools"]["found"].splitlines()
    assert line.startswith("tools.lose cannot be used: ")


def test_webhooks_alone_have_no_models(capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = check(capsys, CONFIG, "--set", "server.role=webhook")
    assert (code, list(rows)) == (0, ["settings", "secrets", "credentials", "public URL"])
    assert "api_key" not in rows["credentials"]["found"]


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("replyd.toml").write_text(CONFIG)
    assert main(["check", "--offline", "--config", "replyd.toml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "how to mend it" in lines[0]
    assert ["✓", "settings", "valid"] in [line.split() for line in lines]
    assert any(line.split()[:2] == ["!", "credentials"] for line in lines)


def test_offline_reads_no_table() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--offline", "--assistants"])
    assert stopped.value.code == 2


def test_nobody_is_asked() -> None:
    """Python itself tells of each connection and each look-up of a name, whoever makes it."""
    Path("replyd.toml").write_text(CONFIG + SECRETS)
    program = textwrap.dedent("""
        import contextlib, io, socket, sys

        seen = []
        network = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.send")
        sys.addaudithook(lambda name, _: name.startswith(network) and seen.append(name))

        from replyd.cli import main

        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["check", "--config", "replyd.toml", "--offline"])
        print(code, len(seen))
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 9))
        print(len(seen))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    # The second line shows that it would have been seen.
    assert done.stdout.splitlines() == ["0 0", "2"]
