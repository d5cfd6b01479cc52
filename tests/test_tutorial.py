"""`docs/tutorial.md`: its files are valid, and its first commands print what it shows."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from replyd import cli
from replyd.demo import bakery
from replyd.settings import load
from tests.demo.running import environ

REPOSITORY = Path(__file__).parent.parent
TEXT = (REPOSITORY / "docs/tutorial.md").read_text("utf-8")
SERVING = {
    "REPLYD_QUEUES__REPLIES_URL": "https://sqs.example.com/1/replies",
    "REPLYD_QUEUES__HANDOFF_URL": "https://sqs.example.com/1/handoff",
    "REPLYD_CONVERSATIONS__TABLE": "conversations",
    "OPENAI_API_KEY": "sk-1",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "TWILIO_AUTH_TOKEN": "token-1",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


# Each a command and what it prints.
SESSIONS = [block.removeprefix("$ ").partition("\n")[::2] for block in blocks("console")]


def test_the_first_answer_is_the_doubles() -> None:
    command, shown = SESSIONS[0]
    words = shlex.split(command)
    said = [text for option, text in pairwise(words) if option == "--say"]
    customer = "".join(f"Lee: {text}\n" for text in said)
    answer = bakery.reply("\n".join(said))
    assert shown == f"{customer}Mill Lane Bakery: {answer}\n"


def test_the_tool_of_ones_own_is_called(tmp_path: Path) -> None:
    """As the tutorial's own command and files have it."""
    command, shown = SESSIONS[1]
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    (tmp_path / "replyd.toml").write_text(blocks("toml")[0])
    path, program, *arguments = shlex.split(command)
    assert (path, program) == ("PYTHONPATH=.", ".venv/bin/replyd")
    done = subprocess.run(
        [sys.executable, "-m", "replyd", *arguments],
        cwd=tmp_path,
        env=environ(PYTHONPATH=f".:{REPOSITORY}"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{shown}\nThe record:\n")


def test_its_settings_can_be_served_with(tmp_path: Path) -> None:
    (tmp_path / "replyd.toml").write_text("\n".join(blocks("toml")))
    settings = load(tmp_path / "replyd.toml", SERVING)
    assert settings.ai.profile("lee").tools == ("hand_over", "stock")
    assert settings.unknown_sender.policy == "create"


def test_commands_and_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    tried = [line.partition(".venv/bin/replyd ")[2] for line in lines if "bin/replyd" in line]
    assert tried
    for words in map(shlex.split, tried):
        command = words[: 2 if words[0] in ("twilio", "conversation") else 1]
        with pytest.raises(SystemExit) as stopped:
            cli.main([*command, "--help"])
        assert stopped.value.code == 0
        known = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in known] == []
