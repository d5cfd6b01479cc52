"""The wheel and the source distribution, built as a release builds them, hold what they should."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath

import pytest
from uv import find_uv_bin

from replyd import cli

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
VERSION = "1.2.3rc4"
BUILD = [find_uv_bin(), "--no-config", "build", "--python", sys.executable]
LOCKED = ["--require-hashes", "--build-constraint", "config/requirements/build.txt"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both are. uv builds the wheel from the source distribution, which has no git."""
    place = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [*BUILD, *LOCKED, "--out-dir", place],
        cwd=REPOSITORY,
        env=os.environ | {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_REPLYD": VERSION},
        check=False,
        capture_output=True,
        text=True,
    )
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip("uv reaches no package index")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(built / f"replyd-{VERSION}-py3-none-any.whl") as file:
        yield file


def metadata(wheel: zipfile.ZipFile) -> Message:
    return BytesParser().parsebytes(wheel.read(f"replyd-{VERSION}.dist-info/METADATA"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = REPOSITORY / "replyd"
    ours = {
        path.relative_to(REPOSITORY).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == ours
    assert {"replyd/py.typed", "replyd/demo/page/index.html"} <= names


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    said = metadata(wheel)
    assert (said["Version"], said["License-Expression"]) == (VERSION, "Apache-2.0")
    assert said["Requires-Python"] == PROJECT["project"]["requires-python"]
    licences = f"replyd-{VERSION}.dist-info/licenses/LICENSE"
    assert wheel.read(licences) == (REPOSITORY / "LICENSE").read_bytes()


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    lines = wheel.read(f"replyd-{VERSION}.dist-info/entry_points.txt").decode().split("\n")
    (command,) = [line for line in lines if line.startswith("replyd")]
    name, _, target = command.partition(" = ")
    assert EntryPoint(name, target, "console_scripts").load() is cli.main


def test_the_source_distribution_holds_what_the_project_lists(built: Path) -> None:
    with tarfile.open(built / f"replyd-{VERSION}.tar.gz") as file:
        paths = [PurePosixPath(name).relative_to(f"replyd-{VERSION}") for name in file.getnames()]
    listed = set(PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    # What hatchling adds: how to build it, what it is, and what git ignores.
    always = {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {path.parts[0] for path in paths} == listed | always
    assert PurePosixPath("tests/packaging/test_distribution.py") in paths
    assert not [path for path in paths if path.suffix == ".pyc"]
