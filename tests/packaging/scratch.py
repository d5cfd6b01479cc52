"""Builds a Dockerfile without an engine: its COPY and RUN lines in a directory that stands for /,
with a virtual environment of this Python where the base image has its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.packaging.dockerfile import Instruction, Stage, ignored, parse

BASE_IMAGE = "python:3.11-slim"
# An absolute path: at the start of a word, or after what can precede one in an option or a list.
_ABSOLUTE = re.compile(r"(^|[=:])/(?=\w|$)")
# Settings of this machine's pip: where it finds packages.
_INHERITED = re.compile(r"PIP_|SSL_|REQUESTS_|HTTPS?_PROXY|NO_PROXY|XDG_CACHE_HOME", re.IGNORECASE)
# Keeps an image small; here it would load everything anew for each test.
_NOT_HERE = ("PIP_NO_CACHE_DIR",)


@dataclass(frozen=True, slots=True)
class Image:
    """What a stage has come to. `tree` is where its files are while another one is built."""

    tree: Path
    environ: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = ""


class Builder:
    """`root` stands for /; whichever image was asked for last is there. `arguments` are what an
    engine takes as --build-arg."""

    def __init__(
        self, context: Path, root: Path, arguments: Mapping[str, str] | None = None
    ) -> None:
        self._context = context
        self._arguments = arguments or {}
        self.root = root
        self.stages = parse((context / "Dockerfile").read_text())
        ignore = (context / ".dockerignore").read_text().splitlines()
        self._ignore = [line for line in ignore if line and not line.startswith("#")]
        self._images: dict[str, Image] = {}
        self._target: str | None = None

    def build(self, target: str = "") -> Image:
        """The image of this stage, by default the last one. Raises CalledProcessError."""
        stage = self.stages[-1] if not target else next(s for s in self.stages if s.name == target)
        image = self._image(stage)
        if self._target != target:
            self._place(image.tree)
            self._target = target
        return image

    def local(self, text: str) -> str:
        """The same with each absolute path moved to where `root` is."""
        return _ABSOLUTE.sub(rf"\1{self.root}/", text)

    def environ(self, image: Image) -> dict[str, str]:
        """The image's variables, as its commands get them."""
        environ = {name: self.local(value) for name, value in image.environ.items()}
        # What the base image has in /usr/bin.
        return environ | {"PATH": f"{environ['PATH']}:/usr/bin:/bin", "HOME": str(self.root)}

    def directory(self, image: Image) -> Path:
        return Path(self.local(image.workdir))

    def _image(self, stage: Stage) -> Image:
        key = stage.name or "default"
        if key not in self._images:
            images = {name: self._named(name) for name in stage.needs()}
            self._target = None
            self._place(images[stage.base].tree)
            image = images[stage.base]
            for instruction in stage.instructions:
                image = self._apply(image, instruction, images)
            tree = self.root.with_suffix(f".{key}")
            self.root.rename(tree)
            self._images[key] = replace(image, tree=tree)
        return self._images[key]

    def _named(self, name: str) -> Image:
        for stage in self.stages:
            if stage.name == name:
                return self._image(stage)
        assert name == BASE_IMAGE, f"no stand-in for {name}"
        if name not in self._images:
            tree = self.root.with_suffix(".base")
            self._place(None)
            python = self.root / "usr/local"
            subprocess.run([sys.executable, "-m", "venv", python], check=True)
            self.root.rename(tree)
            self._images[name] = Image(tree, {"PATH": "/usr/local/bin"})
        return self._images[name]

    def _place(self, tree: Path | None) -> None:
        if self.root.exists():
            # Whoever had it last may have taken that right away.
            subprocess.run(["chmod", "-R", "u+w", self.root], check=True)
            shutil.rmtree(self.root)
        if tree is None:
            self.root.mkdir()
        else:
            _copy(tree, self.root)

    def _apply(self, image: Image, what: Instruction, images: dict[str, Image]) -> Image:
        match what.keyword:
            case "RUN":
                self._run(image, what.words())
            case "COPY":
                self._copy(image, what, images)
            case "ARG":
                ((name, default),) = what.assignments().items()
                given = {name: self._arguments.get(name, default)}
                return replace(image, arguments=image.arguments | given)
            case "ENV":
                added = {k: self._expand(v, image) for k, v in what.assignments().items()}
                return replace(image, environ=image.environ | added)
            case "WORKDIR":
                Path(self.local(what.rest)).mkdir(parents=True, exist_ok=True)
                return replace(image, workdir=what.rest)
            case _:
                return _described(image, what)
        return image

    def _expand(self, value: str, image: Image) -> str:
        known = image.arguments | image.environ
        return re.sub(r"\$(\w+)", lambda name: known[name[1]], value)

    def _run(self, image: Image, words: list[str]) -> None:
        environ = {k: v for k, v in os.environ.items() if _INHERITED.match(k)} | image.arguments
        environ |= {k: v for k, v in self.environ(image).items() if k not in _NOT_HERE}
        # pip's cache is this machine's.
        environ["HOME"] = os.environ.get("HOME", "/")
        subprocess.run(
            [self.local(word) for word in words],
            env=environ,
            cwd=self.directory(image),
            check=True,
            capture_output=True,
            text=True,
        )

    def _copy(self, image: Image, what: Instruction, images: dict[str, Image]) -> None:
        *sources, target = what.rest.split()
        there = self.directory(image) / self.local(target)
        for source in sources:
            if name := what.options.get("from"):
                _copy(images[name].tree / source.lstrip("/"), there)
            else:
                self._from_context(Path(source), there)

    def _from_context(self, source: Path, there: Path) -> None:
        path = self._context / source
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        kept = [f for f in files if not ignored(f.relative_to(self._context), self._ignore)]
        assert kept, f"COPY {source}: nothing of it in the context"
        for file in kept:
            to = there / (file.name if file == path else file.relative_to(path))
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, to)


def _described(image: Image, what: Instruction) -> Image:
    """What says only how the image is run."""
    match what.keyword:
        case "USER":
            return replace(image, user=what.rest)
        case "STOPSIGNAL":
            return replace(image, stop_signal=what.rest)
        case "ENTRYPOINT":
            return replace(image, entrypoint=what.words())
        case "CMD":
            return replace(image, command=what.words())
        case "HEALTHCHECK":
            command = replace(what, rest=what.rest.removeprefix("CMD "))
            return replace(image, healthcheck=command.words())
    assert what.keyword in ("LABEL", "EXPOSE"), f"{what.keyword}: not known here"
    return image


def _copy(tree: Path, there: Path) -> None:
    """By links: nothing here changes a file in place, and there are thousands."""
    shutil.copytree(tree, there, symlinks=True, dirs_exist_ok=True, copy_function=os.link)
