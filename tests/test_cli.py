"""The command line itself; what the commands do is tested where they do it."""

import gc
from pathlib import Path

import pytest

from replyd import __version__
from replyd.bootstrap import commands
from replyd.cli import main
from replyd.errors import ConfigError
from replyd.runtime import collector


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--set", "window.quiet_seconds"],
        ["serve", "--set", "quiet_seconds=3"],
        ["demo", "--port", "many"],
        ["conversation"],
        ["conversation", "show", "not#an address"],
        ["explain", "not a sid"],
        ["dlq", "show", "other"],
        ["dlq", "show", "--limit", "few"],
    ],
)
def test_wrong_usage_exits_2_and_says_how(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: replyd" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *("serve", "demo", "init", "check", "healthcheck", "conversation show", "explain"),
        *("dlq list", "dlq show", "dlq redrive", "dlq purge"),
    ],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert f"usage: replyd {command}" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"replyd {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["conversation", "show", "+447700900001"], "conversations.table"),
        (["explain", "SM1"], "conversations.table"),
        (["dlq", "list"], "queues.replies_url"),
    ],
)
def test_a_setting_that_a_command_needs_is_named(
    arguments: list[str],
    setting: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 78
    assert capsys.readouterr().err.startswith(f"{setting} is missing: ")


def test_the_collector_rests_until_all_is_loaded_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[bool] = []
    usual = gc.get_threshold()

    def settings(_: object) -> None:
        seen.append(gc.isenabled())
        collector.keep_what_is_loaded()
        seen.append(gc.isenabled())
        seen.append(gc.get_threshold() > usual)
        raise ConfigError(["enough seen"])

    monkeypatch.setattr(commands, "read_settings", settings)
    kept = gc.get_freeze_count()
    try:
        assert main(["serve"]) == 78
        assert gc.get_freeze_count() > kept
    finally:
        gc.unfreeze()
    assert seen == [False, True, True]
    # Also where it never came to that.
    monkeypatch.setattr(collector, "keep_what_is_loaded", lambda: None)
    assert main(["serve"]) == 78
    assert gc.isenabled()
    assert gc.get_threshold() == usual
