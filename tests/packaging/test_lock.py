"""config/requirements/: locked, with hashes, and in step with pyproject.toml."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = {
    "runtime": RUNTIME,
    "demo": RUNTIME + EXTRAS["demo"],
    "build": PROJECT["build-system"]["requires"],
}
RENEW = "out of date: run config/requirements/renew"


def locked(name: str) -> dict[str, Requirement]:
    text = (REPOSITORY / f"config/requirements/{name}.txt").read_text()
    pins = [
        Requirement(line.rstrip(" \\"))
        for line in text.splitlines()
        if re.match(r"[a-z0-9]", line, re.IGNORECASE)
    ]
    return {canonicalize_name(pin.name): pin for pin in pins}


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


def test_the_service_has_what_the_tests_run_on() -> None:
    runtime, demo = locked("runtime"), locked("demo")
    assert {key: version(pin) for key, pin in runtime.items() if key in demo} == {
        key: version(pin) for key, pin in demo.items() if key in runtime
    }
