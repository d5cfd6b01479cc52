"""Settings as the values that the flows decide by."""

from replyd.domain.limits import Cap, LimitPolicy
from replyd.domain.messages import ConversationKey
from replyd.domain.profile import Profile, Profiles, Remedy
from replyd.domain.retention import Retention
from replyd.domain.session_window import SessionPolicy
from replyd.domain.tools import HAND_OVER, ToolSpec
from replyd.domain.turn import TurnPolicy
from replyd.domain.usage import Price, Spent
from replyd.domain.wakeup import BodyCodec
from replyd.domain.window import WindowPolicy
from replyd.settings import Settings
from replyd.settings.ai import Profile as ProfileSettings

# Of a reply: more than any model writes.
_PARTS = 10


def policies(settings: Settings) -> tuple[WindowPolicy, TurnPolicy]:
    """By which workers with these settings decide."""
    return _window(settings), _policy(settings)


def body_codec(settings: Settings) -> BodyCodec:
    """Of the bodies on both queues."""
    return BodyCodec(settings.conversations.partition_key, settings.conversations.sort_key)


def _window(settings: Settings) -> WindowPolicy:
    window = settings.window
    return WindowPolicy(
        quiet_ms=_ms(window.quiet_seconds),
        max_wait_ms=_ms(window.max_wait_seconds),
        max_messages=window.max_messages,
    )


def _policy(settings: Settings) -> TurnPolicy:
    turn = settings.turn
    return TurnPolicy(
        lease_ms=_ms(turn.lease_seconds),
        skew_ms=_ms(turn.clock_skew_seconds),
        max_attempts=turn.max_attempts,
        give_up_ms=_ms(turn.give_up_after_seconds),
        max_restarts=settings.window.max_restarts,
        on_ambiguous=turn.on_ambiguous,
        apology=bool(turn.apology_text),
        limits=_limits(settings),
    )


def longest_turn_seconds(settings: Settings) -> float:
    """What no turn takes, however slow everything is: one that does hangs. Generous, as the end is
    the process's: each call takes its time limit, each round of tools is used, each fallback asked,
    each send repeated as often as it may be."""
    ai, turn = settings.ai, settings.turn
    profiles = [ai.profile(name) for name in ("", *ai.names())]
    model = sum(profile.timeout_seconds for profile in profiles)
    tools = sum(tool.timeout_seconds for tool in settings.tools.values())
    # An answer that cannot be used is asked for once more.
    rounds = 2 * (max(profile.max_tool_rounds for profile in profiles) + 1)
    files = settings.voice.wait_seconds + settings.media.timeout_seconds
    draft = settings.window.max_wait_seconds + files + rounds * (model + tools)
    # A send waits no longer than its lease lasts.
    sending = _PARTS * turn.max_attempts * turn.lease_seconds
    return (settings.window.max_restarts + 1) * draft + sending


def new_key(settings: Settings, customer: str, conversation_id: str) -> ConversationKey:
    """Where a conversation that replyd starts is put. A table that is looked up by an index is
    taken to be keyed by the conversation."""
    c = settings.conversations
    if c.lookup_index:
        return ConversationKey(conversation_id, customer if c.sort_key else "")
    return ConversationKey(customer, conversation_id if c.sort_key else "")


def profiles(settings: Settings) -> Profiles:
    """Who answers, and how."""
    ai, specs = settings.ai, tool_specs(settings)
    return Profiles(
        default=_profile("", ai, specs),
        named={name: _profile(name, ai.profile(name), specs) for name in ai.names()},
        assistants=dict(ai.assistants.map),
    )


def tool_specs(settings: Settings) -> dict[str, ToolSpec]:
    """The team's own tools, and `hand_over`."""
    own = {
        name: ToolSpec(
            name=name,
            description=tool.description,
            parameters=tool.parameters,
            effects=tool.effects,
            timeout_seconds=tool.timeout_seconds,
        )
        for name, tool in settings.tools.items()
    }
    return {HAND_OVER.name: HAND_OVER, **own}


def retention(settings: Settings) -> Retention:
    return Retention(settings.retention.record_days, settings.retention.archive_days)


def session(settings: Settings) -> SessionPolicy:
    """What goes out outside of WhatsApp's window."""
    return SessionPolicy(settings.sending.outside_window, settings.sending.template)


def prices(settings: Settings) -> dict[str, Price]:
    return {
        model: Price(price.input, price.cached_input, price.output)
        for model, price in settings.prices.items()
    }


def _profile(name: str, ai: ProfileSettings, specs: dict[str, ToolSpec]) -> Profile:
    remedies: dict[str, Remedy] = {
        "empty": ai.on_empty,
        "refused": ai.on_refused,
        "truncated": ai.on_truncated,
        "filtered": ai.on_filtered,
    }
    return Profile(
        name=name,
        tools={tool: specs[tool] for tool in ai.tools},
        max_tool_rounds=ai.max_tool_rounds,
        structured=ai.output == "json",
        formatted=ai.formatting == "whatsapp",
        images=ai.images,
        documents=ai.documents,
        remedies=remedies,
        fallback_text=ai.fallback_text,
    )


def _limits(settings: Settings) -> LimitPolicy:
    limits = settings.limits
    # A call that nobody has an account of is taken to be one of the dearest tokens.
    dearest = max((price.output for price in settings.prices.values()), default=0.0)
    return LimitPolicy(
        day=Cap(limits.day_turns, limits.day_tokens, _microdollars(limits.day_dollars)),
        conversation=Cap(
            limits.conversation_turns,
            limits.conversation_tokens,
            _microdollars(limits.conversation_dollars),
        ),
        reserve=Spent(1, limits.reserve_tokens, round(limits.reserve_tokens * dearest)),
        at_limit=limits.at_limit,
        text=limits.text,
        loop_turns=limits.loop_turns,
        loop_ms=_ms(limits.loop_seconds),
        loop_repeats=limits.loop_repeats,
    )


def _microdollars(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * 1_000_000)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
