"""Where a long text in WhatsApp's formatting can be cut, and how its parts read on their own."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import regex

from replyd.domain.spans import BLOCK, QUOTE, Address, Span, find_addresses, find_spans

# Below it nothing is closed and reopened: the marks might leave no room for the text.
_LEAST_FOR_MARKS = 40

# How strongly a place withstands a cut; most do not at all, and are 0.
_BESIDE, _WHOLE, _CHARACTER = 1, 2, 3
# What a break ends.
_PARAGRAPH, _LINE, _SENTENCE, _WORD = range(4)

# \X alone takes quadratic time for a row of flags.
_GRAPHEME = regex.compile(
    r"[\U0001f1e6-\U0001f1ff]{2}[\p{Grapheme_Cluster_Break=Extend}\p{Mc}\u200d]*+|\X"
)
# The marks of a quote and of a list's item, and the indentation, go with what follows.
_LINE_START = re.compile(
    r"^(?:> )?[ \t]*(?:(?:[-*+•◦☐☑]|\d{1,3}[.)])[ \t]{1,4})?(?=\S)", re.MULTILINE
)
_SPACE = re.compile(r"\s+")
_NO_BREAK = "\u00a0\u2007\u202f"
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]*_~]{0,5}\Z")
# Chinese and Japanese put no space behind a full stop.
_FULL_STOP = re.compile(r"(?<![。！？])[。！？]++[”’」』）]*+(?=[^\s。！？])")


@dataclass(frozen=True, slots=True)
class _Break:
    """A part ends at `end`, and the next begins at `start`, behind the white space."""

    end: int
    start: int
    level: int


class Splitter:
    """Cuts one text. Takes about 10 µs a character at worst."""

    def __init__(self, text: str, limit: int) -> None:
        """`text`: without outer white space; `limit`: UTF-16 units, at least 2."""
        self._text = text
        self._limit = limit
        self._lengths = [0, *accumulate(2 if ord(c) > 0xFFFF else 1 for c in text)]
        addresses = find_addresses(text)
        spans = find_spans(text, addresses) if limit >= _LEAST_FOR_MARKS else []
        whole, cut = self._sorted(spans)
        self._places, self._enclosing = _enclosures(cut)
        self._strength = bytearray(len(text) + 1)
        self._hold(addresses, whole, cut)
        self._breaks = self._found_breaks()
        self._ends = [b.end for b in self._breaks]

    def parts(self) -> Iterator[str]:
        start = 0
        while True:
            opening = "".join(span.opening for span in self._around(start))
            room = self._limit - len(opening)
            if self._length(start, len(self._text)) <= room:
                yield opening + self._text[start:]
                return
            cut = self._cut(start, room)
            closing = "".join(span.closing for span in reversed(self._around(cut.end)))
            yield opening + self._text[start : cut.end].rstrip() + closing
            start = cut.start

    def _cut(self, start: int, room: int) -> _Break:
        """The best break that is not too early, else the last one, else one inside a word."""
        furthest = bisect_right(self._lengths, self._lengths[start] + room) - 1
        first, behind = bisect_right(self._ends, start), bisect_right(self._ends, furthest)
        fitting = [b for b in self._breaks[first:behind] if self._fits(start, b.end, room)]
        last = {b.level: b for b in fitting}
        for level in (_PARAGRAPH, _LINE, _SENTENCE):
            if level in last and self._length(start, last[level].end) > room // 3:
                return last[level]
        between_words = [b for b in fitting if b.end < b.start]
        if between_words:
            return between_words[-1]
        return next(
            _Break(end, self._behind_space(end), _WORD)
            for tolerated in (0, _BESIDE, _WHOLE, _CHARACTER)
            for end in range(furthest, start, -1)
            if self._strength[end] <= tolerated and self._fits(start, end, room)
        )

    def _behind_space(self, at: int) -> int:
        while self._text[at].isspace() and self._strength[at + 1] < _CHARACTER:
            at += 1
        return at

    def _length(self, start: int, end: int) -> int:
        return self._lengths[end] - self._lengths[start]

    def _fits(self, start: int, end: int, room: int) -> bool:
        closing = sum(len(span.closing) for span in self._around(end))
        return self._length(start, end) + closing <= room

    def _around(self, at: int) -> tuple[Span, ...]:
        """The spans to reopen in a part that begins here, outermost first."""
        return self._enclosing[bisect_right(self._places, at) - 1]

    # --- what must stay whole --------------------------------------------------------------

    def _sorted(self, spans: Sequence[Span]) -> tuple[list[Span], list[Span]]:
        """Those that fit into a part and stay whole, and those that can be cut, by their order
        in the text; of those inside whole ones, none."""
        whole: list[Span] = []
        cut: list[Span] = []
        around: list[Span] = []
        for span in sorted(spans, key=lambda s: (s.start, -s.end)):
            if whole and span.end <= whole[-1].end:
                continue
            while around and around[-1].end <= span.start:
                around.pop()
            room = self._limit - sum(len(s.opening + s.closing) for s in around)
            if span.opening != QUOTE and self._length(span.start, span.end) <= room:
                whole.append(span)
            else:
                around.append(span)
                cut.append(span)
        return whole, cut

    def _hold(
        self,
        addresses: Sequence[Address],
        whole: Sequence[Span],
        cut: Sequence[Span],
    ) -> None:
        """The weaker first: the stronger overwrite them."""
        for line in _LINE_START.finditer(self._text):
            self._withstand(line.start(), line.end() + 1, _BESIDE)
        for address in addresses:
            self._withstand(address.start, address.behind, _BESIDE)
        for address in addresses:
            if self._is_part(address.start, address.end):
                self._withstand(address.start, address.end, _WHOLE)
        for span in whole:
            self._withstand(span.start, span.end, _WHOLE)
        for span in cut:
            if span.opening != QUOTE:
                self._withstand(span.start, span.head + 1, _CHARACTER)
                self._withstand(span.tail - 1, span.end, _CHARACTER)
        for character in _GRAPHEME.finditer(self._text):
            start, end = character.span()
            if end - start > 1 and self._is_part(start, end):
                self._withstand(start, end, _CHARACTER)

    def _withstand(self, start: int, end: int, strength: int) -> None:
        inside = max(0, end - start - 1)
        self._strength[start + 1 : start + 1 + inside] = bytes([strength]) * inside

    def _is_part(self, start: int, end: int) -> bool:
        around = sum(len(span.opening + span.closing) for span in self._around(start))
        return self._length(start, end) <= self._limit - around

    def _found_breaks(self) -> list[_Break]:
        breaks = [_Break(m.end(), m.end(), _SENTENCE) for m in _FULL_STOP.finditer(self._text)]
        for space in _SPACE.finditer(self._text):
            end, start = space.span()
            if self._strength[start] == _CHARACTER:
                start -= 1  # an accent on a space
            if start > end and space[0].strip(_NO_BREAK):
                breaks.append(_Break(end, self._start_in_code(end, start), self._level(space)))
        return sorted((b for b in breaks if not self._strength[b.end]), key=lambda b: b.end)

    def _level(self, space: re.Match[str]) -> int:
        lines = space[0].count("\n")
        if lines:
            return _PARAGRAPH if lines > 1 else _LINE
        end = space.start()
        return _SENTENCE if _SENTENCE_END.search(self._text, max(0, end - 6), end) else _WORD

    def _start_in_code(self, end: int, start: int) -> int:
        """A line of code keeps its indentation."""
        line = self._text.rfind("\n", end, start) + 1
        is_code = any(span.opening == BLOCK for span in self._around(end))
        return line if is_code and line and start - line <= self._limit // 4 else start


def _enclosures(spans: Sequence[Span]) -> tuple[list[int], list[tuple[Span, ...]]]:
    """From each place on, the spans that a cut is inside of, outermost first."""
    events = [(span.start + 1, 1, number) for number, span in enumerate(spans)]
    events += [(span.end, 0, number) for number, span in enumerate(spans)]
    places = [0]
    enclosing: list[tuple[Span, ...]] = [()]
    for place, begins, number in sorted(events):
        now = enclosing[-1]
        span = spans[number]
        places.append(place)
        enclosing.append((*now, span) if begins else tuple(s for s in now if s is not span))
    return places, enclosing
