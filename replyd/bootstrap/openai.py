"""OpenAI's adapters, by the settings.

To import their SDK takes as long as all the rest of a start: only those import this module who
cannot do without, and `replyd serve` loads it when it listens already (`ai.py`)."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from replyd.adapters.openai.audio import OpenAITranscriber
from replyd.adapters.openai.chat import OpenAIChat
from replyd.adapters.openai.client import Client, create_client
from replyd.adapters.openai.erasure import OpenAIThreads
from replyd.adapters.openai.moderation import OpenAIModerator
from replyd.adapters.openai.responses import OpenAIResponses
from replyd.bootstrap.ai import DEFAULT
from replyd.bootstrap.later import CheckedModel
from replyd.bootstrap.policies import tool_specs
from replyd.domain.output import SCHEMA
from replyd.ports import Moderator, ThreadEraser, Transcriber
from replyd.settings import Settings
from replyd.settings.ai import Profile

_AUDIO_TIMEOUT_SECONDS = 60.0
_MODERATION_TIMEOUT_SECONDS = 10.0
_ERASING_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Vendor:
    """`models`: by the names under which they were asked for."""

    models: Mapping[str, CheckedModel]
    transcriber: Transcriber | None
    moderator: Moderator | None
    close: Callable[[], Awaitable[None]]


def opened(settings: Settings, profiles: Mapping[str, Profile]) -> Vendor:
    """Needs no event loop, until one of them is used or closed."""
    stack = AsyncExitStack()
    clients = _Clients(stack)
    return Vendor(
        models={name: _model(settings, profile, clients) for name, profile in profiles.items()},
        transcriber=_transcriber(settings, clients) if settings.voice.enabled else None,
        moderator=_moderator(settings, clients) if settings.moderation.enabled else None,
        close=stack.aclose,
    )


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
            (frozenset(names), OpenAIThreads(clients.of(*which, _ERASING_TIMEOUT_SECONDS)))
            for which, names in sharing.items()
        ]


class _Clients:
    """One for each key and server: building one costs milliseconds of CPU."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self._built: dict[tuple[str, str, float, bool], Client] = {}

    def of(
        self, api_key: str, base_url: str, timeout_seconds: float, *, direct: bool = False
    ) -> Client:
        which = (api_key, base_url, timeout_seconds, direct)
        if which not in self._built:
            # Servers of one's own often take no key; the SDK wants one.
            client = create_client(
                api_key or "none",
                base_url=base_url,
                timeout_seconds=timeout_seconds,
                direct=direct,
            )
            self.stack.push_async_callback(client.close)
            self._built[which] = client
        return self._built[which]


def _model(settings: Settings, profile: Profile, clients: _Clients) -> CheckedModel:
    client = clients.of(
        profile.api_key.get_secret_value(),
        profile.base_url,
        profile.timeout_seconds,
        direct=profile.direct,
    )
    specs = tool_specs(settings)
    tools = [specs[name] for name in profile.tools]
    text_format = {"name": "reply", "schema": SCHEMA} if profile.output == "json" else None
    match profile.backend:
        case "responses":
            return OpenAIResponses(
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
            return OpenAIChat(
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
            # Only here: the types of this API take half a second to import, and few still have it.
            from replyd.adapters.openai.assistants import (  # noqa: PLC0415 - as said above
                OpenAIAssistants,
            )

            # Model and instructions are the assistant's own, unless the profile gives others.
            given = profile.model_fields_set
            assistants = OpenAIAssistants(
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


def _transcriber(settings: Settings, clients: _Clients) -> Transcriber:
    voice, ai = settings.voice, settings.ai
    # A key goes to no server but its own.
    shared = "" if voice.base_url not in ("", ai.base_url) else ai.api_key.get_secret_value()
    api_key, base_url = voice.api_key.get_secret_value() or shared, voice.base_url or ai.base_url
    return OpenAITranscriber(
        clients.of(api_key, base_url, _AUDIO_TIMEOUT_SECONDS),
        model=voice.model,
        language=voice.language,
        timeout_seconds=_AUDIO_TIMEOUT_SECONDS,
    )


def _moderator(settings: Settings, clients: _Clients) -> Moderator:
    rules, ai = settings.moderation, settings.ai
    return OpenAIModerator(
        clients.of(ai.api_key.get_secret_value(), ai.base_url, _MODERATION_TIMEOUT_SECONDS),
        model=rules.model,
        timeout_seconds=_MODERATION_TIMEOUT_SECONDS,
    )
