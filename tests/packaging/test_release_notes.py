"""`.ci/release-notes`: a release says what the changelog says of it."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def notes(version: str) -> "subprocess.CompletedProcess[str]":
    command = [str(REPOSITORY / ".ci/release-notes"), version]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_notes_are_the_changelogs_section() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    *_, (version, section) = re.findall(
        r"^## \[([^]]+)\][^\n]*\n(.+?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    done = notes(version)
    assert (done.returncode, done.stdout.strip()) == (0, section.strip())


def test_a_version_that_the_changelog_does_not_have() -> None:
    done = notes("9.9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "## [9.9]" in done.stderr
