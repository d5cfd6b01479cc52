"""The command line itself; what the commands do is tested where they do it."""

import pytest

from replyd import __version__
from replyd.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--set", "window.quiet_seconds"],
        ["serve", "--set", "quiet_seconds=3"],
        ["demo", "--port", "many"],
    ],
)
def test_wrong_usage_exits_2_and_says_how(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: replyd" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "demo", "init", "check", "healthcheck"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: replyd {command}" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"replyd {__version__}\n"
