"""Models, voice notes and moderation, by the settings."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from openai import AsyncOpenAI

from replyd.adapters import openai
from replyd.bootstrap.policies import tool_specs
from replyd.domain.breaker import BreakerPolicy
from replyd.domain.events import ModelSwitched
from replyd.domain.output import SCHEMA
from replyd.flows.models import Backend, Models
from replyd.flows.pacing import KeyPace
from replyd.ports import Clock, Moderator, ReplyModel, Telemetry, ThreadEraser, Transcriber
from replyd.settings import Settings
from replyd.settings.ai import Profile

# The default profile has no name in the settings.
DEFAULT = ""
# Names that no profile can have: the router's for the default one, and for what answers in the
# place of an assistant whose API is gone.
_ROUTED_DEFAULT = "default\0"
_INSTEAD = "{}\0responses"
_AUDIO_TIMEOUT_SECONDS = 60.0
_MODERATION_TIMEOUT_SECONDS = 10.0
_ERASING_TIMEOUT_SECONDS = 20.0


class CheckedModel(ReplyModel, Protocol):
    async def check(self) -> None:
        """Raises DependencyDown with what to change."""
        ...


@dataclass(frozen=True, slots=True)
class AiParts:
    """`models`: by profile, for `check`; `router`: what turns ask."""

    models: Mapping[str, CheckedModel]
    router: ReplyModel
    transcriber: Transcriber | None
    moderator: Moderator | None


@asynccontextmanager
async def thread_erasers(
    settings: Settings,
) -> AsyncIterator[Sequence[tuple[frozenset[str], ThreadEraser]]]:
    """One for each key and server that may keep threads, with the names of its profiles."""
    sharing: dict[tuple[str, str], list[str]] = {}
    for name in (DEFAULT, *settings.ai.names()):
        profile = settings.ai.profile(name)
        if profile.backend == "chat":
            continue
        which = profile.api_key.get_secret_value(), profile.base_url
        sharing.setdefault(which, []).append(name)
    async with AsyncExitStack() as stack:
        clients = _Clients(stack)
        yield [
            (frozenset(names), openai.OpenAIThreads(clients.of(*which, _ERASING_TIMEOUT_SECONDS)))
            for which, names in sharing.items()
        ]


@asynccontextmanager
async def ai_parts(
    settings: Settings, clock: Clock, telemetry: Telemetry
) -> AsyncIterator[AiParts]:
    """Everything that speaks OpenAI's APIs, for as long as it is used."""

    def switched(profile: str, open: bool, reason: str) -> None:  # noqa: A002 - as `OnChange` says
        telemetry.emit(ModelSwitched(profile.partition("\0")[0], open, reason))

    async with AsyncExitStack() as stack:
        clients = _Clients(stack)
        profiles = {name: settings.ai.profile(name) for name in (DEFAULT, *settings.ai.names())}
        models: dict[str, CheckedModel] = {}
        backends: dict[str, Backend] = {}
        for name, profile in profiles.items():
            models[name] = _model(settings, profile, clients)
            routed, gone = name or _ROUTED_DEFAULT, ""
            if profile.backend == "assistants" and settings.ai.assistants.on_gone == "responses":
                gone = _INSTEAD.format(routed)
                responses = profile.model_copy(update={"backend": "responses"})
                instead = _model(settings, responses, clients)
                backends[gone] = Backend(instead, _key(profile), profile.fallback)
            backends[routed] = Backend(models[name], _key(profile), profile.fallback, gone)
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
            transcriber=_transcriber(settings, clients),
            moderator=_moderator(settings, clients),
        )


class _Clients:
    """One for each key and server: building one costs milliseconds of CPU."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self._built: dict[tuple[str, str, float], AsyncOpenAI] = {}

    def of(self, api_key: str, base_url: str, timeout_seconds: float) -> AsyncOpenAI:
        which = (api_key, base_url, timeout_seconds)
        if which not in self._built:
            # Servers of one's own often take no key; the SDK wants one.
            client = openai.create_client(
                api_key or "none", base_url=base_url, timeout_seconds=timeout_seconds
            )
            self.stack.push_async_callback(client.close)
            self._built[which] = client
        return self._built[which]


def _model(settings: Settings, profile: Profile, clients: _Clients) -> CheckedModel:
    client = clients.of(
        profile.api_key.get_secret_value(), profile.base_url, profile.timeout_seconds
    )
    specs = tool_specs(settings)
    tools = [specs[name] for name in profile.tools]
    text_format = {"name": "reply", "schema": SCHEMA} if profile.output == "json" else None
    match profile.backend:
        case "responses":
            return openai.OpenAIResponses(
                client,
                model=profile.model,
                instructions=profile.instructions,
                tools=tools,
                store=profile.store,
                reasoning_effort=profile.reasoning_effort,
                text_format=text_format,
                identify=_identifier(settings, profile),
                timeout_seconds=profile.timeout_seconds,
                max_output_tokens=profile.max_output_tokens,
            )
        case "chat":
            own_server = bool(profile.base_url)
            return openai.OpenAIChat(
                client,
                model=profile.model,
                instructions=profile.instructions,
                tools=tools,
                reasoning_effort=profile.reasoning_effort,
                text_format=text_format,
                # Other servers may refuse a parameter that they do not know.
                identify=(lambda _: "") if own_server else _identifier(settings, profile),
                timeout_seconds=profile.timeout_seconds,
                max_output_tokens=profile.max_output_tokens,
            )
        case "assistants":
            # Model and instructions are the assistant's own, unless the profile gives others.
            given = profile.model_fields_set
            assistants = openai.OpenAIAssistants(
                client,
                assistant_id=profile.assistant_id,
                model=profile.model if "model" in given else "",
                instructions=profile.instructions if "instructions" in given else "",
                tools=tools,
                timeout_seconds=profile.timeout_seconds,
                max_output_tokens=profile.max_output_tokens,
            )
            # Waits for runs that are being withdrawn.
            clients.stack.push_async_callback(assistants.close)
            return assistants


def _identifier(settings: Settings, profile: Profile) -> Callable[[str], str]:
    """A keyed hash: numbers are few enough to try them all against one without a key."""
    secret = settings.ai.identifier_key.get_secret_value() or profile.api_key.get_secret_value()

    def identify(value: str) -> str:
        if not secret or not value:
            return ""
        return hmac.new(secret.encode(), value.encode(), hashlib.sha256).hexdigest()

    return identify


def _key(profile: Profile) -> str:
    """Whose limits the profile's calls count against."""
    return f"{profile.api_key.get_secret_value()}\0{profile.base_url}"


def _pace(clock: Clock, sharing: list[Profile]) -> KeyPace:
    """The strictest of what the key's profiles say."""
    requests = [p.requests_per_minute for p in sharing if p.requests_per_minute is not None]
    tokens = [p.tokens_per_minute for p in sharing if p.tokens_per_minute is not None]
    return KeyPace(
        openai.NAME,
        clock,
        concurrency=min(p.max_concurrent for p in sharing),
        requests_per_minute=min(requests, default=None),
        tokens_per_minute=min(tokens, default=None),
    )


def _transcriber(settings: Settings, clients: _Clients) -> Transcriber | None:
    voice, ai = settings.voice, settings.ai
    if not voice.enabled:
        return None
    # A key goes to no server but its own.
    shared = "" if voice.base_url not in ("", ai.base_url) else ai.api_key.get_secret_value()
    api_key, base_url = voice.api_key.get_secret_value() or shared, voice.base_url or ai.base_url
    return openai.OpenAITranscriber(
        clients.of(api_key, base_url, _AUDIO_TIMEOUT_SECONDS),
        model=voice.model,
        language=voice.language,
        timeout_seconds=_AUDIO_TIMEOUT_SECONDS,
    )


def _moderator(settings: Settings, clients: _Clients) -> Moderator | None:
    rules, ai = settings.moderation, settings.ai
    if rules.input == rules.output == "off":
        return None
    return openai.OpenAIModerator(
        clients.of(ai.api_key.get_secret_value(), ai.base_url, _MODERATION_TIMEOUT_SECONDS),
        model=rules.model,
        timeout_seconds=_MODERATION_TIMEOUT_SECONDS,
    )
