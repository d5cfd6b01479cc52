"""DynamoDB's condition, update and projection expressions, over items in their wire form.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html. As much of the
language as the parties use. An expression is compiled once for its text; what the placeholders
stand for comes with each request.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tests.benchmarks.doubles.values import (
    InvalidExpressionError,
    Item,
    Path,
    Value,
    added,
    equal,
    get,
    is_of,
    joined,
    ordered,
    put,
    remove,
    size,
)


@dataclass(frozen=True, slots=True)
class Placeholders:
    names: Mapping[str, str]
    values: Mapping[str, Value]

    def path(self, path: Path) -> Path:
        names = self.names
        return tuple(
            names[part] if isinstance(part, str) and part.startswith("#") else part for part in path
        )


Condition = Callable[[Item, Placeholders], bool]
_Operand = Callable[[Item, Placeholders], Value | None]
# A path, what is done there, and its operand for SET and ADD.
_Action = tuple[str, Path, _Operand]

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[#:]?[A-Za-z_][A-Za-z0-9_-]*|\d+)|(?P<sign><=|>=|<>|[=<>()\[\].,+-]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._tokens)

    def peek(self) -> str:
        return "" if self.done else self._tokens[self._at]

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if wanted and token.upper() not in wanted:
            raise InvalidExpressionError(f"Syntax error; token: {token or '<EOF>'}")
        self._at += 1
        return token

    def taken(self, *wanted: str) -> bool:
        if self.peek().upper() not in wanted:
            return False
        self._at += 1
        return True

    # --- conditions ----------------------------------------------------------------------------

    def condition(self) -> Condition:
        terms = [self._conjunction()]
        while self.taken("OR"):
            terms.append(self._conjunction())
        return terms[0] if len(terms) == 1 else lambda i, p: any(t(i, p) for t in terms)

    def _conjunction(self) -> Condition:
        terms = [self._term()]
        while self.taken("AND"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda i, p: all(t(i, p) for t in terms)

    def _term(self) -> Condition:
        if self.taken("NOT"):
            term = self._term()
            return lambda i, p: not term(i, p)
        if self.taken("("):
            inner = self.condition()
            self.take(")")
            return inner
        match self.peek():
            case "attribute_exists" | "attribute_not_exists" as function:
                (path,) = self._arguments(self.path)
                there = function == "attribute_exists"
                return lambda i, p: (get(i, p.path(path)) is not None) is there
            case "attribute_type":
                self.take()
                self.take("(")
                path, _ = self.path(), self.take(",")
                kind = self._operand()
                self.take(")")
                return lambda i, p: is_of(get(i, p.path(path)), kind(i, p))
        return self._comparison()

    def _comparison(self) -> Condition:
        left = self._operand()
        sign = self.take("=", "<>", *_COMPARISONS)
        right = self._operand()
        if sign in ("=", "<>"):
            return lambda i, p: equal(left(i, p), right(i, p)) is (sign == "=")
        compare = _COMPARISONS[sign]
        return lambda i, p: ordered(left(i, p), right(i, p), compare)

    # --- paths and operands --------------------------------------------------------------------

    def path(self) -> Path:
        parts: list[str | int] = [self.take()]
        while self.peek() in (".", "["):
            if self.take() == ".":
                parts.append(self.take())
            else:
                parts.append(int(self.take()))
                self.take("]")
        return tuple(parts)

    def _arguments(self, read: Callable[[], Any]) -> list[Any]:
        self.take()
        self.take("(")
        found = [read()]
        while self.taken(","):
            found.append(read())
        self.take(")")
        return found

    def _operand(self) -> _Operand:
        token = self.peek()
        if token.startswith(":"):
            self.take()
            return lambda _, p: p.values[token]
        if token == "if_not_exists":
            self.take()
            self.take("(")
            path, _, other = self.path(), self.take(","), self._operand()
            self.take(")")
            return lambda i, p: other(i, p) if (v := get(i, p.path(path))) is None else v
        if token == "list_append":
            first, second = self._arguments(self._operand)
            return lambda i, p: joined(first(i, p), second(i, p))
        if token == "size":
            (path,) = self._arguments(self.path)
            return lambda i, p: size(get(i, p.path(path)))
        path = self.path()
        return lambda i, p: get(i, p.path(path))

    def _sum(self) -> _Operand:
        left = self._operand()
        if self.peek() not in ("+", "-"):
            return left
        sign, right = self.take(), self._operand()
        return lambda i, p: added(left(i, p), right(i, p), 1 if sign == "+" else -1)

    # --- updates -------------------------------------------------------------------------------

    def update(self) -> Iterator[_Action]:
        while not self.done:
            verb = self.take("SET", "ADD", "REMOVE").upper()
            while True:
                path = self.path()
                operand: _Operand = _nothing
                if verb == "SET":
                    self.take("=")
                    operand = self._sum()
                elif verb == "ADD":
                    operand = self._operand()
                yield verb, path, operand
                if not self.taken(","):
                    break

    def paths(self) -> Iterator[Path]:
        yield self.path()
        while self.taken(","):
            yield self.path()


def _tokens(text: str) -> Iterator[str]:
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidExpressionError(f"Invalid expression near {text[at : at + 10]}")
        at = match.end()
        yield match["word"] or match["sign"]


@lru_cache(1024)
def condition(text: str) -> Condition:
    parser = _Parser(text)
    found = parser.condition()
    if not parser.done:
        raise InvalidExpressionError(f"Syntax error; token: {parser.peek()}")
    return found


@lru_cache(1024)
def _actions(text: str) -> Sequence[_Action]:
    return tuple(_Parser(text).update())


@lru_cache(1024)
def _paths(text: str) -> Sequence[Path]:
    return tuple(_Parser(text).paths())


def update(text: str, item: Item, given: Placeholders) -> tuple[Item, set[str]]:
    """The item after the update, which shares what did not change with the one before, and the
    attributes that were touched. Operands and indexes mean the item before."""
    fresh, touched = dict(item), set()
    removals: list[Path] = []
    for verb, named, operand in _actions(text):
        path = given.path(named)
        touched.add(str(path[0]))
        if verb == "REMOVE":
            removals.append(path)
            continue
        value = operand(item, given)
        if verb == "ADD":
            value = added(get(item, path) or {"N": "0"}, value, 1)
        if value is None:
            raise InvalidExpressionError("The provided expression refers to a missing attribute")
        put(fresh, path, value)
    # From the end, so that each index means the list before the update.
    for path in sorted(removals, key=lambda p: [(isinstance(x, int), x) for x in p], reverse=True):
        remove(fresh, path)
    return fresh, touched


def project(text: str, item: Item, given: Placeholders) -> Item:
    """Only maps are followed: the parties project nothing out of lists."""
    found: Item = {}
    for named in _paths(text):
        path = given.path(named)
        value = get(item, path)
        if value is None:
            continue
        target: Any = found
        for part in path[:-1]:
            target = target.setdefault(part, {"M": {}})["M"]
        target[path[-1]] = value
    return found


def _nothing(item: Item, given: Placeholders) -> None:
    return None
