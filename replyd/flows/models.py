"""Which model answers: the profile's own, or the one that stands in for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from replyd.domain import breaker
from replyd.domain.breaker import Breaker, BreakerPolicy
from replyd.errors import (
    Busy,
    DependencyDown,
    DependencyError,
    KeepsFailing,
    Permanent,
    Temporary,
)
from replyd.flows.pacing import KeyPace
from replyd.ports import Clock, ModelReply, ModelRequest, ReplyModel

# The code of a DependencyDown that is for good: the API behind this profile was switched off.
GONE = "assistants_gone"

# What a call uses is booked when it has ended; until then it counts as this. Four characters of
# English a token, https://help.openai.com/en/articles/4936856.
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_FILE = 1_000
# Instructions and the answer.
_OTHER_TOKENS = 1_000


class OnChange(Protocol):
    def __call__(self, profile: str, open: bool, reason: str) -> None:  # noqa: A002
        """A profile is not asked any more, or is again; `reason` is empty then."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Who answers for a profile. `key`: whose limits its calls count against. `fallback`: the
    profile that is asked while this one is down; `on_gone`: from then on, when it is down for
    good. Empty for none."""

    model: ReplyModel
    key: str
    fallback: str = ""
    on_gone: str = ""


class Models:
    """Implements `ports.ReplyModel` over the profiles' own models.

    An answer of a fallback comes without a thread: the conversation stays in the thread of its own
    profile, which sees the turn as one that it has missed. The `state` of a reply names the
    profile too, so that the tools' results go where they were asked for."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        default: str,
        paces: Mapping[str, KeyPace],
        policy: BreakerPolicy,
        clock: Clock,
        on_change: OnChange,
    ) -> None:
        """`paces`: by key. Raises ValueError when a name has nothing behind it."""
        named = {name for b in backends.values() for name in (b.fallback, b.on_gone) if name}
        if missing := (named | {default}) - set(backends):
            raise ValueError(f"no such profile: {', '.join(sorted(missing))}")
        self._default = default
        self._on_change = on_change
        self._guarded = {
            name: _Guarded(name, backend, paces[backend.key], policy, clock, on_change)
            for name, backend in backends.items()
        }
        # Profiles that are down for good, and who answers instead.
        self._gone: dict[str, str] = {}

    async def respond(self, request: ModelRequest) -> ModelReply:
        """Raises as the profile's own model does, KeepsFailing for the failure after which that is
        left alone, and DependencyDown meanwhile: `delay` says when it will be asked again. Busy
        also when others use up the key."""
        own = self._own(request.profile)
        if request.state is not None:
            # What a fallback has begun nobody else can go on with.
            name, inner = request.state
            reply = await self._guarded[name].respond(replace(request, state=inner))
            return _returned(reply, name, foreign=name != own)
        failures: list[DependencyError] = []
        tried: set[str] = set()
        name = own
        while name and name not in tried:
            tried.add(name)
            guarded = self._guarded[name]
            try:
                reply = await guarded.respond(request)
            except DependencyError as error:
                failure = error
            else:
                return _returned(reply, name, foreign=name != self._own(request.profile))
            if self._is_gone(name, failure):
                name = self._standing_in(name)
            else:
                failures.append(failure)
                if not guarded.is_down(failure):
                    break
                name = self._standing_in(guarded.backend.fallback)
            request = _anew(request)
        failure = _first_of(failures)
        if failure.code == GONE and len(failures) == 1:
            # Coming back would find it gone again: people need not wait for that.
            raise Permanent(failure.dependency, failure.reason, code=failure.code)
        raise failure

    def _own(self, profile: str) -> str:
        return self._standing_in(profile if profile in self._guarded else self._default)

    def _standing_in(self, name: str) -> str:
        while name in self._gone:
            name = self._gone[name]
        return name

    def _is_gone(self, name: str, failure: DependencyError) -> bool:
        """Whether somebody else answers for this profile from now on."""
        if failure.code != GONE:
            return False
        if name not in self._gone:
            instead = self._standing_in(self._guarded[name].backend.on_gone)
            # Two that stand in for each other are both just down.
            if instead in ("", name):
                return False
            self._gone[name] = instead
            self._on_change(name, open=True, reason=failure.reason)
        return True


class _Guarded:
    """A backend behind its breaker and its key's limits."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        pace: KeyPace,
        policy: BreakerPolicy,
        clock: Clock,
        on_change: OnChange,
    ) -> None:
        self.backend = backend
        self._name = name
        self._pace = pace
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._breaker: Breaker = breaker.Closed()

    def is_down(self, failure: DependencyError) -> bool:
        """Whether the failure is more than one call's."""
        if isinstance(failure, Busy) or not isinstance(failure, Temporary):
            return False
        return isinstance(failure, DependencyDown) or not isinstance(self._breaker, breaker.Closed)

    async def respond(self, request: ModelRequest) -> ModelReply:
        # Nobody waits for a slot that will not be used.
        self._admitted()
        async with self._pace.slot(request.business, _estimated_tokens(request)) as slot:
            state, epoch = self._admitted()
            self._become(state)
            try:
                reply = await self.backend.model.respond(request)
            except DependencyError as error:
                self._failed(epoch, error)
                failure = self._outage(error) or error
            except BaseException:
                self._become(breaker.abandoned(self._breaker, epoch))
                raise
            else:
                self._become(breaker.succeeded(self._breaker, epoch))
                if used := reply.input_tokens + reply.output_tokens:
                    slot.used(used)
                return reply
            raise failure

    def _admitted(self) -> tuple[Breaker, int]:
        state, answer = breaker.admit(self._breaker, self._clock.elapsed())
        if isinstance(answer, breaker.Go):
            return state, answer.epoch
        cause = answer.cause
        raise DependencyDown(
            cause.dependency, cause.reason, code=cause.code, delay=answer.seconds or None
        )

    def _failed(self, epoch: int, error: DependencyError) -> None:
        if error.code == GONE and self.backend.on_gone:
            # No trial would ever succeed.
            self._become(breaker.abandoned(self._breaker, epoch))
            return
        now = self._clock.elapsed()
        self._become(breaker.failed(self._breaker, epoch, error, now, self._policy))

    def _outage(self, error: DependencyError) -> DependencyDown | None:
        """What a failure amounts to that has opened the breaker, or left it open: an outage, which
        must not use up the attempts of whoever happens to be asking."""
        if type(error) is not Temporary or not isinstance(self._breaker, breaker.Open):
            return None
        left = self._breaker.until - self._clock.elapsed()
        delay = max(error.delay or 0.0, left)
        return KeepsFailing(error.dependency, error.reason, code=error.code, delay=delay or None)

    def _become(self, state: Breaker) -> None:
        before, self._breaker = self._breaker, state
        if isinstance(before, breaker.Closed) and isinstance(state, breaker.Open):
            self._on_change(self._name, open=True, reason=state.cause.reason)
        elif isinstance(before, breaker.HalfOpen) and isinstance(state, breaker.Closed):
            self._on_change(self._name, open=False, reason="")


def _anew(request: ModelRequest) -> ModelRequest:
    """For a model that cannot know the thread."""
    return replace(request, thread_id="", unseen=request.history, again=False)


def _returned(reply: ModelReply, name: str, *, foreign: bool) -> ModelReply:
    if reply.calls:
        reply = replace(reply, state=(name, reply.state))
    return replace(reply, thread_id="") if foreign else reply


def _first_of(failures: Sequence[DependencyError]) -> DependencyError:
    """What to do is what the first one says, the profile's own: a fallback must not make it worse.
    Whoever is ready soonest is worth coming back for."""
    first, *others = failures
    if not others or not isinstance(first, Temporary):
        return first
    reason = "; ".join([first.reason, *(f"fallback: {error.reason}" for error in others)])
    delays = [e.delay or 0.0 for e in failures if isinstance(e, Temporary)]
    return type(first)(first.dependency, reason, code=first.code, delay=min(delays) or None)


def _estimated_tokens(request: ModelRequest) -> int:
    texts = [request.turn, *(line.text for line in request.history)]
    texts += [result.output for result in request.results]
    tokens = sum(map(len, texts)) // _CHARACTERS_PER_TOKEN
    return tokens + len(request.files) * _TOKENS_PER_FILE + _OTHER_TOKENS
