"""What the settings of the AI, its tools and its limits must agree on.

What profiles inherit from `[ai]` is complained of once, there. No sentence repeats a text that was
set, names of tables apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replyd.domain.tools import HAND_OVER
from replyd.settings.ai import Ai, Profile
from replyd.settings.disagreement import Disagreement
from replyd.settings.names import dotted

if TYPE_CHECKING:
    from replyd.settings.model import Settings

_OUTCOMES = ("on_empty", "on_refused", "on_truncated", "on_filtered")


def disagreements(settings: Settings) -> Iterator[Disagreement]:
    yield from _backends(settings.ai)
    yield from _fallbacks(settings.ai)
    yield from _cycles(settings.ai)
    yield from _assistants(settings.ai)
    yield from _texts(settings)
    yield from _tools(settings)
    yield from _prices(settings)
    yield from _limits(settings)
    yield from _times(settings)


def _profiles(ai: Ai, *fields: str) -> Iterator[tuple[str, Profile]]:
    """`[ai]`, and the profiles in which one of the fields is not as there."""
    yield "ai", ai
    for name, profile in ai.profiles.items():
        if any(getattr(profile, field) != getattr(ai, field) for field in fields):
            yield dotted("ai", "profiles", name), profile


def _backends(ai: Ai) -> Iterator[Disagreement]:
    for at, profile in _profiles(ai, "backend", "assistant_id"):
        if profile.backend == "assistants" and not profile.assistant_id:
            yield Disagreement(
                (f"{at}.assistant_id", f"{at}.backend"),
                f'{at}.assistant_id is missing: {at}.backend "assistants" needs the id of the '
                "assistant that answers",
            )


def _fallbacks(ai: Ai) -> Iterator[Disagreement]:
    for at, profile in _profiles(ai, "fallback"):
        if profile.fallback and profile.fallback not in ai.profiles:
            yield Disagreement(
                (f"{at}.fallback", "ai.profiles"),
                f"{at}.fallback must be the name of a profile: {_known_profiles(ai)}",
            )


def _cycles(ai: Ai) -> Iterator[Disagreement]:
    seen: set[str] = set()
    for first in ai.profiles:
        chain: list[str] = []
        name = first
        while name in ai.profiles and name not in seen:
            seen.add(name)
            chain.append(name)
            name = ai.profiles[name].fallback
        if name in chain:
            cycle = chain[chain.index(name) :]
            keys = tuple(f"{dotted('ai', 'profiles', one)}.fallback" for one in cycle)
            yield Disagreement(
                keys,
                f"{keys[0]} leads back to its own profile, by way of {', '.join(cycle)}: make "
                "fallback empty in the profile that is to be asked last",
            )


def _assistants(ai: Ai) -> Iterator[Disagreement]:
    if wrong := sum(name not in ai.profiles for name in ai.assistants.map.values()):
        yield Disagreement(
            ("ai.assistants.map", "ai.profiles"),
            f"ai.assistants.map leads {wrong} of its assistants to profiles that do not exist: "
            f"{_known_profiles(ai)}",
        )


def _known_profiles(ai: Ai) -> str:
    if not ai.profiles:
        return "there are none, add [ai.profiles.<name>]"
    return f"known are {', '.join(sorted(ai.profiles))}"


def _texts(s: Settings) -> Iterator[Disagreement]:
    for at, profile in _profiles(s.ai, *_OUTCOMES, "fallback_text"):
        asking = [name for name in _OUTCOMES if getattr(profile, name) == "text"]
        if asking and not profile.fallback_text:
            yield _lacks_text(f"{at}.fallback_text", [f"{at}.{name}" for name in asking])
    if s.limits.at_limit == "text" and not s.limits.text:
        yield _lacks_text("limits.text", ["limits.at_limit"])
    asking = [name for name in ("input", "output") if getattr(s.moderation, name) == "text"]
    if asking and not s.moderation.text:
        yield _lacks_text("moderation.text", [f"moderation.{name}" for name in asking])


def _lacks_text(text: str, asking: list[str]) -> Disagreement:
    return Disagreement(
        (text, *asking), f'{text} is missing: {asking[0]} "text" sends it to the customer'
    )


def _tools(s: Settings) -> Iterator[Disagreement]:
    known = ", ".join((HAND_OVER.name, *sorted(s.tools)))
    for at, profile in _profiles(s.ai, "tools"):
        if wrong := len(set(profile.tools) - set(s.tools) - {HAND_OVER.name}):
            yield Disagreement(
                (f"{at}.tools", "tools"),
                f"{at}.tools has {wrong} that do not exist: known are {known}; add "
                "[tools.<name>] or take it out",
            )
    lease, timeout = s.turn.lease_seconds, s.twilio.timeout_seconds
    for name, tool in s.tools.items():
        at = dotted("tools", name)
        if bool(tool.python) == bool(tool.url):
            have = "has both" if tool.url else "has neither"
            yield Disagreement(
                (f"{at}.python", f"{at}.url"),
                f"{at} must have one of python and url, and {have}: set the one that does the work",
            )
        if tool.effects and tool.timeout_seconds + timeout >= lease:
            yield Disagreement(
                (f"{at}.timeout_seconds", "twilio.timeout_seconds", "turn.lease_seconds"),
                f"{at}.timeout_seconds ({tool.timeout_seconds:g}) and twilio.timeout_seconds "
                f"({timeout:g}) must together be shorter than turn.lease_seconds ({lease:g}): "
                "what it does could still be under way when another worker takes over",
            )


def _prices(s: Settings) -> Iterator[Disagreement]:
    limits = ("day_dollars", "conversation_dollars")
    asking = [f"limits.{name}" for name in limits if getattr(s.limits, name) is not None]
    if not asking:
        return
    for at, profile in _profiles(s.ai, "model"):
        if profile.model not in s.prices:
            yield Disagreement(
                (asking[0], "prices", f"{at}.model"),
                f"{asking[0]} needs the price of {at}.model: add it under "
                '[prices."<name of the model>"]',
            )


def _limits(s: Settings) -> Iterator[Disagreement]:
    reserve = s.limits.reserve_tokens
    for name in ("day_tokens", "conversation_tokens"):
        limit = getattr(s.limits, name)
        if limit is not None and reserve > limit:
            yield Disagreement(
                ("limits.reserve_tokens", f"limits.{name}"),
                f"limits.reserve_tokens ({reserve}) must be at most limits.{name} ({limit}): no "
                "call could ever start",
            )


def _times(s: Settings) -> Iterator[Disagreement]:
    longest = s.turn.give_up_after_seconds
    times = {
        "voice.wait_seconds": s.voice.wait_seconds,
        "media.timeout_seconds": s.media.timeout_seconds,
    }
    for key, seconds in times.items():
        if seconds >= longest:
            yield Disagreement(
                (key, "turn.give_up_after_seconds"),
                f"{key} ({seconds:g}) must be shorter than turn.give_up_after_seconds "
                f"({longest:g}): people would get the conversation while it waits",
            )
