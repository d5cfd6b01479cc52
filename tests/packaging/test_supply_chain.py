"""The bill of materials, and what CI makes of pip-audit's answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from tests.packaging.test_lock import REPOSITORY, locked, version

REQUIREMENTS = REPOSITORY / "config" / "requirements"


def run(script: str, *arguments: str, path: Path | None = None) -> tuple[int, str]:
    """`path`: where programs are looked for first."""
    paths = [str(path or ""), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        [str(REQUIREMENTS / script), *arguments],
        env=os.environ | {"PATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_bill_names_all_that_is_locked() -> None:
    code, text = run("sbom")
    assert code == 0
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "replyd"
    named = {canonicalize_name(c["name"]): c["version"] for c in bill["components"]}
    assert named == {key: version(pin) for key, pin in locked("runtime").items()}
    for component in bill["components"]:
        assert component["purl"].startswith("pkg:pypi/")
        sources = component["externalReferences"]
        assert sources
        assert all(s["hashes"] and s["url"].startswith("https://files.python") for s in sources)


def answer(*vulnerabilities: object, skipped: bool = False) -> str:
    known: dict[str, object] = {"name": "aiohttp", "version": "1", "vulns": list(vulnerabilities)}
    unknown = {"name": "six", "skip_reason": "Dependency not found on PyPI"}
    return json.dumps({"dependencies": [unknown if skipped else known, unknown]})


HOLE = {"id": "CVE-1", "fix_versions": ["2"]}


@pytest.mark.parametrize(
    ("out", "err", "code", "said"),
    [
        (answer(), "", 0, "1 packages, nothing known against them"),
        (answer(HOLE), "Found 1 known vulnerability", 1, "aiohttp 1: CVE-1, mended in 2"),
        (answer(HOLE | {"fix_versions": []}), "", 1, "CVE-1, mended in no version yet"),
        (answer(skipped=True), "", 0, "skipped: the service knows none of 2 packages"),
        ("", "requests.exceptions.ConnectionError: no route", 0, "skipped: "),
        ("", "ERROR:pip_audit: HTTPError: 503 Server Error", 0, "skipped: "),
        ("", "ERROR:pip_audit: requirement is not hashed", 1, "failed: "),
        ("", "", 1, "failed: pip-audit said nothing"),
    ],
)
def test_what_an_audit_says(tmp_path: Path, out: str, err: str, code: int, said: str) -> None:
    """With a program in pip-audit's place, which answers as it does."""
    double = tmp_path / "pip-audit"
    double.write_text(
        f"#!{sys.executable}\nimport sys\nprint({out!r})\nprint({err!r}, file=sys.stderr)\n"
        f"sys.exit({code})\n"
    )
    double.chmod(0o755)
    found, text = run("audit", path=tmp_path)
    assert found == code
    for name in ("runtime", "demo"):
        assert f"audit of {name}: " in text
    assert said in text
