"""Models, voice notes and moderation, by the settings."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from replyd.bootstrap.later import (
    CheckedModel,
    Later,
    LaterModel,
    LaterModerator,
    LaterTranscriber,
)
from replyd.domain import formatting
from replyd.domain.breaker import BreakerPolicy
from replyd.domain.events import ModelSwitched
from replyd.flows.models import Backend, Models
from replyd.flows.pacing import KeyPace
from replyd.ports import Clock, Moderator, ReplyModel, Telemetry, Transcriber
from replyd.settings import Settings
from replyd.settings.ai import Profile

if TYPE_CHECKING:
    from replyd.bootstrap.openai import Vendor

# The default profile has no name in the settings.
DEFAULT = ""
# Names that no profile can have: the router's for the default one, and for what answers in the
# place of an assistant whose API is gone.
_ROUTED_DEFAULT = "default\0"
_INSTEAD = "{}\0responses"
# What failures of the vendor's adapters are counted as.
_DEPENDENCY = "openai"


@dataclass(frozen=True, slots=True)
class AiParts:
    """`models`: by profile, for `check`; `router`: what turns ask. `load`: everybody waits for it
    who asks one of them, so that it is better done before somebody does."""

    models: Mapping[str, CheckedModel]
    router: ReplyModel
    transcriber: Transcriber | None
    moderator: Moderator | None
    load: Callable[[], Awaitable[object]]


@asynccontextmanager
async def ai_parts(
    settings: Settings, clock: Clock, telemetry: Telemetry
) -> AsyncIterator[AiParts]:
    """Everything that speaks OpenAI's APIs, for as long as it is used."""

    def switched(profile: str, open: bool, reason: str) -> None:  # noqa: A002 - as `OnChange` says
        telemetry.emit(ModelSwitched(profile.partition("\0")[0], open, reason))

    profiles = {name: settings.ai.profile(name) for name in (DEFAULT, *settings.ai.names())}
    asked: dict[str, Profile] = {}
    vendor = Later(partial(_loaded, settings, asked))

    def model(name: str, profile: Profile) -> LaterModel:
        asked[name] = profile

        async def get() -> CheckedModel:
            return (await vendor.get()).models[name]

        return LaterModel(get)

    async def transcriber() -> Transcriber:
        found = (await vendor.get()).transcriber
        assert found is not None
        return found

    async def moderator() -> Moderator:
        found = (await vendor.get()).moderator
        assert found is not None
        return found

    models: dict[str, CheckedModel] = {}
    backends: dict[str, Backend] = {}
    for name, profile in profiles.items():
        routed, gone = name or _ROUTED_DEFAULT, ""
        models[name] = model(routed, profile)
        if profile.backend == "assistants" and settings.ai.assistants.on_gone == "responses":
            gone = _INSTEAD.format(routed)
            instead = model(gone, profile.model_copy(update={"backend": "responses"}))
            backends[gone] = Backend(instead, _key(profile), profile.fallback)
        backends[routed] = Backend(models[name], _key(profile), profile.fallback, gone)
    try:
        yield AiParts(
            models=models,
            router=Models(
                backends,
                default=_ROUTED_DEFAULT,
                paces={
                    key: _pace(clock, [p for p in profiles.values() if _key(p) == key])
                    for key in {_key(p) for p in profiles.values()}
                },
                policy=BreakerPolicy(settings.ai.breaker_failures, settings.ai.breaker_seconds),
                clock=clock,
                on_change=switched,
            ),
            transcriber=LaterTranscriber(transcriber) if settings.voice.enabled else None,
            moderator=LaterModerator(moderator) if settings.moderation.enabled else None,
            load=vendor.get,
        )
    finally:
        if (made := await vendor.made()) is not None:
            await made.close()


def _loaded(settings: Settings, profiles: Mapping[str, Profile]) -> "Vendor":
    # Only here: nobody is asked before the first customers have finished writing, and those
    # who accept messages, or ask nobody at all, need not wait for it.
    from replyd.bootstrap.openai import opened  # noqa: PLC0415 - as said above

    # What the answers are written in.
    formatting.prepare()
    return opened(settings, profiles)


def _key(profile: Profile) -> str:
    """Whose limits the profile's calls count against."""
    return f"{profile.api_key.get_secret_value()}\0{profile.base_url}"


def _pace(clock: Clock, sharing: list[Profile]) -> KeyPace:
    """The strictest of what the key's profiles say."""
    requests = [p.requests_per_minute for p in sharing if p.requests_per_minute is not None]
    tokens = [p.tokens_per_minute for p in sharing if p.tokens_per_minute is not None]
    return KeyPace(
        _DEPENDENCY,
        clock,
        concurrency=min(p.max_concurrent for p in sharing),
        requests_per_minute=min(requests, default=None),
        tokens_per_minute=min(tokens, default=None),
    )
