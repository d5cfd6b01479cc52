"""Who writes the replies: whether they can be asked, until when, with what tools, at what price."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from replyd.errors import ConfigError
from replyd.flows.models import GONE
from replyd.provision.results import CheckResult, Failure, outcome
from replyd.settings import Ai, Profile, Settings
from replyd.settings.names import dotted

# When OpenAI ends a model, as published.
MODEL_ENDS = {
    "gpt-5": "2026-12-11",
    "gpt-5-mini": "2026-12-11",
    "gpt-5-nano": "2026-12-11",
    "gpt-4o": "2027-01-14",
    "gpt-4o-mini": "2027-01-14",
    "gpt-4.1": "2027-01-14",
    "gpt-4.1-mini": "2027-01-14",
    "whisper-1": "2027-02-26",
    "gpt-4o-transcribe": "2027-02-26",
    "gpt-4o-mini-transcribe": "2027-02-26",
}


class CheckedModel(Protocol):
    async def check(self) -> None:
        """Raises DependencyDown or Permanent with a reason that an operator can act on."""
        ...


OpenTools: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


async def about_models(
    settings: Settings, models: Mapping[str, CheckedModel], timeout: float
) -> list[CheckResult]:
    """A row for each profile, the default one, "", first. Profiles that ask the same of the same
    server share one question, which may take `timeout` seconds."""
    ai = settings.ai
    profiles = {name: ai.profile(name) for name in ("", *ai.names())}
    asked = {_question(profile): models[name] for name, profile in profiles.items()}
    answers = await asyncio.gather(*(outcome(timeout, model.check) for model in asked.values()))
    found = dict(zip(asked, answers, strict=True))
    return [_model(ai, name, p, found[_question(p)]) for name, p in profiles.items()]


def about_models_unasked(settings: Settings) -> Iterator[CheckResult]:
    """A row for each profile, with what is known of its model without asking anybody."""
    ai = settings.ai
    for name in ("", *ai.names()):
        profile = ai.profile(name)
        ends = _ends(_model_of(ai, profile), f"{_at(name)}.model")
        yield CheckResult(_title(name), True, f"{_who(profile)}: not asked", ends)


def about_voice(settings: Settings) -> Iterator[CheckResult]:
    """Nothing unless there is advice: no voice note is at hand to try it with."""
    voice = settings.voice
    if voice.enabled and (advice := _ends(voice.model, "voice.model")):
        yield CheckResult("voice notes", True, f"{voice.model}, not tried", advice)


async def about_tools(settings: Settings, open_tools: OpenTools) -> CheckResult:
    """`open_tools` raises ConfigError for tools that cannot be had."""
    try:
        async with open_tools():
            found = f"{len(settings.tools)} in [tools]" if settings.tools else "none in [tools]"
            return CheckResult("tools", True, found)
    except ConfigError as error:
        problems = "\n".join(error.problems)
    return CheckResult("tools", False, problems, "mend each of these", about_settings=True)


def about_prices(settings: Settings) -> Iterator[CheckResult]:
    """Nothing where no money is counted."""
    ai, limits, prices = settings.ai, settings.limits, settings.prices
    if not prices and limits.day_dollars is None and limits.conversation_dollars is None:
        return
    used = {_model_of(ai, ai.profile(name)) for name in ("", *ai.names())} - {""}
    # As it is counted: a price is also that of longer names, vendors answer with a dated one.
    free = sorted(model for model in used if not any(model.startswith(name) for name in prices))
    advice = ""
    if free:
        advice = f"{', '.join(free)} counts as free: add {_price_tables(free)}"
    yield CheckResult(
        "prices", True, f"known for {len(used) - len(free)} of {len(used)} models", advice
    )


def _question(profile: Profile) -> tuple[str, ...]:
    key = profile.api_key.get_secret_value()
    if profile.backend == "assistants":
        return (profile.backend, key, profile.base_url, profile.assistant_id)
    return (profile.backend, key, profile.base_url, profile.model)


def _model(ai: Ai, name: str, profile: Profile, answer: Failure | None) -> CheckResult:
    at, title, shown = _at(name), _title(name), _who(profile)
    ends = _ends(_model_of(ai, profile), f"{at}.model")
    if answer is None:
        return CheckResult(title, True, f"{shown}: answers", ends)
    if answer.code != GONE:
        return CheckResult(title, False, f"{shown}: {answer.reason}", _mend(name, at, profile))
    gone, goes_on = "the Assistants API is gone from this server", ai.assistants.on_gone
    mend = (
        f'set {at}.backend = "responses", {at}.model and {at}.instructions; for other assistants '
        "add [ai.profiles.<name>] and name it in ai.assistants.map"
    )
    if goes_on == "responses":
        found = f"{shown}: {gone}; the Responses API answers, with {profile.model}"
        return CheckResult(title, True, found, "; ".join(filter(None, (mend, ends))))
    return CheckResult(title, False, f"{shown}: {gone}", mend)


def _at(name: str) -> str:
    return dotted("ai", "profiles", name) if name else "ai"


def _title(name: str) -> str:
    return f"model (profile {name})" if name else "model"


def _who(profile: Profile) -> str:
    who = [profile.backend, profile.model]
    if profile.backend == "assistants":
        given = (profile.model,) if "model" in profile.model_fields_set else ()
        who = [profile.backend, profile.assistant_id, *given]
    return ", ".join(who)


def _mend(name: str, at: str, profile: Profile) -> str:
    key = f"{at}.api_key" if name else "OPENAI_API_KEY"
    what = "assistant_id" if profile.backend == "assistants" else "model"
    mend = f"check {key}, {at}.{what} and {at}.base_url"
    return f"{mend}; what the profile leaves out is as in [ai]" if name else mend


def _model_of(ai: Ai, profile: Profile) -> str:
    """Empty where it is the assistant's own."""
    inherent = profile.backend == "assistants" and "model" not in profile.model_fields_set
    return "" if inherent and ai.assistants.on_gone != "responses" else profile.model


def _ends(model: str, setting: str) -> str:
    end = MODEL_ENDS.get(model)
    return f"OpenAI ends {model} on {end}: choose another {setting} before" if end else ""


def _price_tables(models: list[str]) -> str:
    return ", ".join(f"[{dotted('prices', model)}]" for model in models)
