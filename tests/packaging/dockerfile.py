"""Reads a Dockerfile whose commands are all in JSON form; enough of the format for ours."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

_CONTINUED = re.compile(r"\\\n")
_COMMENT = re.compile(r"^\s*#.*\n", re.MULTILINE)
_ASSIGNMENT = re.compile(r'([\w.]+)=("[^"]*"|\S+)')
_OPTION = re.compile(r"--([\w-]+)=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`options` are those in front, such as `--from=build`; `rest` is what follows them."""

    keyword: str
    options: dict[str, str]
    rest: str

    def words(self) -> list[str]:
        """The arguments in JSON form. Raises ValueError for a shell's form."""
        words: list[str] = json.loads(self.rest)
        return words

    def assignments(self) -> dict[str, str]:
        return {name: value.strip('"') for name, value in _ASSIGNMENT.findall(self.rest)}


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, keyword: str) -> Instruction | None:
        found = [each for each in self.instructions if each.keyword == keyword]
        return found[-1] if found else None

    def needs(self) -> list[str]:
        """Images and stages that it is made of."""
        sources = [each.options.get("from", "") for each in self.instructions]
        return [self.base, *filter(None, sources)]


def parse(text: str) -> list[Stage]:
    """The stages in order; the last one is what a build makes by default."""
    stages: list[Stage] = []
    for line in _CONTINUED.sub(" ", _COMMENT.sub("", text)).splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        elif keyword:
            stages[-1].instructions.append(_instruction(keyword, rest.strip()))
    return stages


def _instruction(keyword: str, rest: str) -> Instruction:
    options: dict[str, str] = {}
    while option := _OPTION.match(rest):
        options[option[1]] = option[2]
        rest = rest[option.end() :]
    return Instruction(keyword, options, rest)


def ignored(path: Path, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps this path, relative to the context, out of it: the last pattern
    that matches it, or a directory above it, decides."""
    answer = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if any(_matches(each, bare) for each in (path, *path.parents)):
            answer = not pattern.startswith("!")
    return answer


def _matches(path: Path, pattern: str) -> bool:
    anywhere = pattern.removeprefix("**/")
    depth = len(path.parts) == pattern.count("/") + 1
    return path.match(anywhere) and (anywhere != pattern or depth)
