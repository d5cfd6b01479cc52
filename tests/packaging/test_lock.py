"""uv.lock and config/requirements/: locked, with hashes, and in step with pyproject.toml."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = {
    "runtime": RUNTIME,
    "demo": RUNTIME + EXTRAS["demo"],
    "build": PROJECT["build-system"]["requires"],
}
# How config/requirements/renew has them from uv.lock.
EXPORT = ["export", "--quiet", "--frozen", "--no-emit-project"]
EXPORTS = {
    "runtime": ["--group", "service"],
    "demo": ["--extra", "demo"],
    "build": ["--only-group", "build"],
}
LOCK = tomllib.loads((REPOSITORY / "uv.lock").read_text())
# What may differ between the service and the demo: aiobotocore's releases bound these.
OF_THE_AWS_CLIENT = {"aiobotocore", "botocore", "multidict"}
RENEW = "out of date: run config/requirements/renew"


def locked(name: str) -> dict[str, Requirement]:
    text = (REPOSITORY / f"config/requirements/{name}.txt").read_text()
    pins = [
        Requirement(line.rstrip(" \\"))
        for line in text.splitlines()
        if re.match(r"[a-z0-9]", line, re.IGNORECASE)
    ]
    return {canonicalize_name(pin.name): pin for pin in pins}


def pins_with_hashes(text: str) -> dict[str, set[str]]:
    """By what is before the hashes. Comments and their place are uv's, and change with it."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line.split() for line in joined.splitlines() if re.match(r"\w", line)]
    return {
        " ".join(word for word in words if not word.startswith("--hash=")): {
            word for word in words if word.startswith("--hash=")
        }
        for words in lines
    }


def uv(*words: str) -> str:
    """What it prints. Reads no index and no settings of this machine."""
    done = subprocess.run(
        [find_uv_bin(), "--offline", "--no-config", *words, "--python", sys.executable],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{RENEW}\n{done.stderr}"
    return done.stdout


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("name", WANTED)
def test_what_we_ask_for_is_locked_within_our_ranges(name: str) -> None:
    pins = locked(name)
    for text in WANTED[name]:
        wanted = Requirement(text)
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} is missing; {RENEW}"
        assert wanted.specifier.contains(version(pin)), f"{pin} is not {wanted}; {RENEW}"


@pytest.mark.parametrize("name", ["runtime", "demo"])
def test_the_lock_is_complete_and_has_nothing_left_over(name: str) -> None:
    """Follows what the packages ask for as they are installed here."""
    pins, todo, reached = locked(name), [Requirement(text) for text in WANTED[name]], set()
    while todo:
        wanted = todo.pop()
        key = canonicalize_name(wanted.name)
        extras = {"", *wanted.extras}
        if (key, *sorted(extras)) in reached:
            continue
        reached.add((key, *sorted(extras)))
        assert key in pins, f"{key} is missing; {RENEW}"
        for text in metadata.requires(key) or []:
            each = Requirement(text)
            if not each.marker or any(each.marker.evaluate({"extra": e}) for e in extras):
                todo.append(each)
    here = {k for k, pin in pins.items() if not pin.marker or pin.marker.evaluate()}
    surplus = here - {key for key, *_ in reached}
    assert not surplus, f"{surplus}: nothing asks for them; {RENEW}"


@pytest.mark.parametrize("name", WANTED)
def test_every_pin_has_hashes(name: str) -> None:
    text = (REPOSITORY / f"config/requirements/{name}.txt").read_text()
    for block in re.split(r"\n(?=[a-z0-9])", text, flags=re.IGNORECASE)[1:]:
        assert "--hash=sha256:" in block, block
    assert "://" not in text, "an index of one machine"


def test_they_are_what_uv_lock_says() -> None:
    for name, options in EXPORTS.items():
        there = (REPOSITORY / f"config/requirements/{name}.txt").read_text()
        assert pins_with_hashes(uv(*EXPORT, *options)) == pins_with_hashes(there), RENEW


def test_uv_lock_is_in_step_with_pyproject() -> None:
    """Needs no index: only a lock that has to change is resolved."""
    uv("lock", "--check")


def test_uv_lock_names_the_public_index_and_no_other() -> None:
    for package in LOCK["package"]:
        if package["name"] == "replyd":
            assert package["source"] == {"editable": "."}
            continue
        assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        assert files, package["name"]
        for file in files:
            assert file["url"].startswith("https://files.pythonhosted.org/"), file["url"]
            assert file["hash"].startswith("sha256:"), file["url"]


def test_what_builds_it_is_locked_as_the_build_system_asks() -> None:
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]


def test_beside_the_aws_client_the_service_has_what_the_tests_run_on() -> None:
    """The demo pins botocore, and the service need not wait for it."""
    runtime, demo = locked("runtime"), locked("demo")
    others = [key for key in runtime if key in demo and key not in OF_THE_AWS_CLIENT]
    assert {key: version(runtime[key]) for key in others} == {
        key: version(demo[key]) for key in others
    }
    assert runtime.keys() >= OF_THE_AWS_CLIENT
