"""What happened in a run, in order: hashed to compare runs, printed to read them."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

# Virtual time, who, which conversation (or ""), what.
Line = tuple[float, str, str, str]


@dataclass(slots=True)
class Trace:
    """`note` takes the virtual time, who did it, the conversation (or ""), and what."""

    time: Callable[[], float]
    lines: list[Line] = field(default_factory=list)

    def note(self, who: str, conversation: str, what: str) -> None:
        self.lines.append((self.time(), who, conversation, what))

    def digest(self) -> str:
        """The same for the same run, byte for byte."""
        text = "\n".join([f"{t:.6f} {w} {c} {what}" for t, w, c, what in self.lines])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def render(lines: Iterable[Line], conversations: Collection[str] = ()) -> Iterator[str]:
    """Readable lines: all of them, or those of these conversations and of the instances."""
    for time, who, conversation, what in lines:
        if not conversations or not conversation or conversation in conversations:
            yield f"{time:9.3f} s  {who:<9} {conversation:<7} {what}"
