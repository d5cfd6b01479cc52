"""A circuit breaker: whether a dependency that keeps failing is worth another call.

Everything here is a function of state and time. Times are seconds on a clock that never goes back.
"""

from dataclasses import dataclass

from replyd.errors import Busy, DependencyDown, DependencyError, Temporary


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens after `failures` in a row; the next trial comes `seconds` later."""

    failures: int = 5
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Cause:
    """The failure to blame, in the words of `DependencyError`."""

    dependency: str
    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls go through. `failures`: so many in a row; `cause`: the first of them."""

    failures: int = 0
    cause: Cause | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """No call until `until`."""

    until: float
    cause: Cause
    epoch: int


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One trial is under way, since `since`; nobody else may call."""

    since: float
    cause: Cause
    epoch: int


# `epoch` tells the calls of one state from those of another: a call that was let in before the
# breaker opened says nothing about the dependency of today.
Breaker = Closed | Open | HalfOpen


@dataclass(frozen=True, slots=True)
class Go:
    """Call, and tell the outcome with this `epoch`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Stay:
    """Do not call. `seconds` until the next trial, 0 while one is under way: nobody knows when it
    ends."""

    cause: Cause
    seconds: float


def admit(breaker: Breaker, now: float) -> tuple[Breaker, Go | Stay]:
    """Ask before each call. Whoever is told to go must call one of the functions below after it,
    or no other trial will ever be made."""
    match breaker:
        case Closed():
            return breaker, Go(breaker.epoch)
        case Open() if now < breaker.until:
            return breaker, Stay(breaker.cause, breaker.until - now)
        case Open():
            trial = HalfOpen(now, breaker.cause, breaker.epoch + 1)
            return trial, Go(trial.epoch)
        case HalfOpen():
            return breaker, Stay(breaker.cause, 0.0)


def succeeded(breaker: Breaker, epoch: int) -> Breaker:
    """The call brought an answer."""
    if epoch != breaker.epoch:
        return breaker
    return Closed(epoch=breaker.epoch + (not isinstance(breaker, Closed)))


def failed(
    breaker: Breaker, epoch: int, error: DependencyError, now: float, policy: BreakerPolicy
) -> Breaker:
    """The call failed. DependencyDown opens at once, Temporary counts. Busy and Permanent are
    answers of a dependency that works, for one caller or one request."""
    if not isinstance(error, Temporary) or isinstance(error, Busy):
        return abandoned(breaker, epoch)
    if epoch != breaker.epoch:
        return breaker
    # What concerns everybody says more than the first of some failures that came one by one.
    down = isinstance(error, DependencyDown)
    known = None if down else breaker.cause
    cause = known or Cause(error.dependency, error.reason, error.code)
    failures = breaker.failures + 1 if isinstance(breaker, Closed) else policy.failures
    if down or failures >= policy.failures:
        return Open(now + policy.seconds, cause, breaker.epoch + 1)
    return Closed(failures, cause, breaker.epoch)


def abandoned(breaker: Breaker, epoch: int) -> Breaker:
    """The call ended without saying anything about the dependency: the next one may try."""
    if epoch != breaker.epoch or not isinstance(breaker, HalfOpen):
        return breaker
    return Open(breaker.since, breaker.cause, breaker.epoch + 1)
