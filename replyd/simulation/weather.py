"""Which faults a run has, how often, and the errors they are."""

import random
from collections import Counter
from dataclasses import dataclass, field

from replyd.errors import (
    Ambiguous,
    Busy,
    DependencyDown,
    DependencyError,
    Permanent,
    Temporary,
)

# Kinds of faults by port. `fail`: an error, and nothing happened; `lost`: it happened, and the
# error comes; `late`: the error comes, and it happens afterwards; `twice`: it happens again, as a
# retry after a lost answer makes it, and the second answer comes; `ghost`: it happens and is
# answered, and some time later happens again; `slow`: the answer takes long; `stuck`: longer than
# a lease.
KINDS: dict[str, tuple[str, ...]] = {
    "store": ("fail", "lost", "lost", "late", "twice", "twice", "ghost", "slow"),
    "queue": ("fail", "lost", "slow", "duplicate", "duplicate", "delayed"),
    "handoffs": ("fail", "lost", "twice", "slow"),
    "model": ("temporary", "busy", "down", "permanent", "slow", "stuck"),
    "channel": (
        "temporary",
        "busy",
        "down",
        "permanent",
        "ambiguous_accepted",
        "ambiguous_accepted",
        "ambiguous_dropped",
        "ambiguous_late",
        "slow",
    ),
    "tools": ("temporary", "permanent", "ambiguous_accepted", "ambiguous_late", "slow"),
    "webhook": ("answer_lost", "duplicate"),
    # The table finds a COMMIT with texts invalid, as it does one that makes the item too large.
    "texts": ("refused",),
}
_VENDORS = {
    "store": "dynamodb",
    "queue": "sqs",
    "handoffs": "sqs",
    "model": "openai",
    "channel": "twilio",
    "tools": "tools",
}
_RATES = (0.0, 0.0, 0.03, 0.1, 0.25)


@dataclass(frozen=True, slots=True)
class Outage:
    """From `start` to `end`, in seconds, nobody reaches this port, or one instance alone."""

    port: str
    start: float
    end: float
    instance: str = ""


@dataclass(slots=True)
class Weather:
    """Rates are per call. `over`: nothing fails any more."""

    rates: dict[str, float]
    outages: tuple[Outage, ...] = ()
    slow_model: bool = False
    # Of the table's faults there are late repetitions only, and many.
    ghosts: bool = False
    kills: int = 0
    drains: int = 0
    stalls: int = 0
    over: bool = False
    injected: Counter[str] = field(default_factory=Counter)

    @property
    def calm(self) -> bool:
        """Whether nothing fails in the whole run."""
        return not (
            any(self.rates.values()) or self.outages or self.kills or self.drains or self.stalls
        )

    @classmethod
    def drawn(cls, rng: random.Random, seconds: float) -> "Weather":
        """Runs differ in kind, not only in luck: some have no faults, some only a few kinds."""
        if rng.random() < 0.1:
            return cls(dict.fromkeys(KINDS, 0.0))
        rates = {port: rng.choice(_RATES) for port in KINDS}
        rates["texts"] = rng.choice((0.0, 0.0, 0.0, 0.1))
        if ghosts := rng.random() < 0.1:
            rates["store"] = 0.5
        outages = tuple(
            Outage(port, start := rng.uniform(0, seconds), start + rng.uniform(2, 60))
            for port in _VENDORS
            if port != "tools" and rng.random() < 0.08
        )
        # Slow answers and instances that are cut off for longer than a lease, together: turns
        # whose holder is alive and has lost them.
        slow = rng.random() < 0.25
        partitions: tuple[Outage, ...] = ()
        for name in ("i1.", "i2.", "i3.", "i4.") * 2:
            if rng.random() < (0.6 if slow else 0.05):
                start = rng.uniform(0, seconds)
                end = start + rng.uniform(20, 50)
                partitions += (Outage("store", start, end, name),)
                if rng.random() < 0.7:
                    partitions += (Outage("queue", start, end, name),)
        return cls(
            rates,
            outages + partitions,
            slow_model=slow,
            ghosts=ghosts,
            kills=rng.choice((0, 0, 1, 2, 4, 8)),
            drains=rng.choice((0, 0, 0, 1, 2)),
            stalls=rng.choice((0, 0, 0, 4, 12)),
        )

    def fate(self, port: str, rng: random.Random, now: float, who: str = "") -> str:
        """The fault of this call, or "" for none."""
        if self.over:
            return ""
        for outage in self.outages:
            if (
                outage.port == port
                and outage.start <= now < outage.end
                and who.startswith(outage.instance)
            ):
                self.injected[f"{port} outage"] += 1
                return "outage"
        rate = self.rates[port]
        if not rate or rng.random() >= rate:
            return ""
        kind = "ghost" if self.ghosts and port == "store" else rng.choice(KINDS[port])
        self.injected[f"{port} {kind}"] += 1
        return kind


def error(port: str, kind: str, rng: random.Random) -> DependencyError:
    """The error that an adapter raises for this fault."""
    vendor = _VENDORS[port]
    if kind in ("down", "outage"):
        return DependencyDown(vendor, f"simulated: {kind}")
    if kind == "busy":
        return Busy(vendor, "simulated: busy", delay=rng.choice((None, 1.0, 5.0)))
    if kind == "permanent":
        return Permanent(vendor, "simulated: refused for good")
    if kind.startswith("ambiguous"):
        return Ambiguous(vendor, "simulated: no answer in time")
    if kind == "temporary":
        return Temporary(vendor, "simulated: temporary", delay=rng.choice((None, 2.0, 40.0)))
    return rng.choice((Temporary, Busy, DependencyDown))(vendor, f"simulated: {kind}")
