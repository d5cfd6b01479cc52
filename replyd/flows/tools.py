"""Tools that the model calls. One with effects is written down before it runs, so that it runs at
most once for the messages of a turn, whatever becomes of this worker."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from replyd.domain import tool_steps, turn
from replyd.domain.events import ToolRan
from replyd.domain.profile import Profile
from replyd.domain.tools import ToolCall, ToolResult, ToolSpec
from replyd.errors import Ambiguous, DependencyError
from replyd.flows.workbench import Turn
from replyd.ports import ToolContext

# Of a result, in the record: its history must stay small.
_KEPT_CHARACTERS = 1_000

_UNKNOWN = "It may have happened or not. It is not called again; say so where it matters."


class TurnOverError(Exception):
    """The turn cannot go on: the lease is lost, or people have the conversation."""

    def __init__(self, answer: turn.LeaseLost | turn.Silenced) -> None:
        super().__init__(type(answer).__name__)
        self.answer = answer


async def run_tools(
    held: Turn, profile: Profile, calls: Sequence[ToolCall]
) -> tuple[ToolResult, ...]:
    """What the model is told of each call, in their order. Those without effects run side by
    side. Raises TurnOverError, and as the store does."""
    harmless = [c for c in calls if not _has_effects(profile, c)]
    outputs = dict(
        zip(
            (c.id for c in harmless),
            await asyncio.gather(*(_run(held, profile, c) for c in harmless)),
            strict=True,
        )
    )
    for call in calls:
        if call.id not in outputs:
            outputs[call.id] = await _run(held, profile, call)
    return tuple(ToolResult(c.id, outputs[c.id]) for c in calls)


def called(held: Turn) -> str:
    """For people: which tools with effects were called for these messages."""
    lines = []
    for name, noted in sorted({**held.conversation.tools, **held.tools}.items()):
        outcome = str(noted.get("outcome", "unknown")) if isinstance(noted, Mapping) else "unknown"
        lines.append(f"The AI has called {name}: {outcome}.")
    return "\n".join(lines)


def _has_effects(profile: Profile, call: ToolCall) -> bool:
    spec = profile.tools.get(call.name)
    return spec is not None and spec.effects


async def _run(held: Turn, profile: Profile, call: ToolCall) -> str:
    bench, started = held.bench, held.bench.clock.now()
    spec = profile.tools.get(call.name)
    try:
        if spec is None:
            raise ValueError(f"There is no tool {call.name[:64]}.")
        arguments = bench.toolbox.check(call.name, call.arguments)
    except ValueError as error:
        name = spec.name if spec is not None else "unknown"
        return _done(held, name, "refused", f"Not called: {error}", started)
    if not spec.effects:
        outcome, output = await _attempt(held, spec, arguments)
        return _done(held, spec.name, outcome, output, started)
    outcome, output = await _once(held, spec, arguments)
    return _done(held, spec.name, outcome, output, started)


async def _once(held: Turn, spec: ToolSpec, arguments: Mapping[str, Any]) -> tuple[str, str]:
    before = held.tools.get(spec.name) or held.conversation.tools.get(spec.name)
    if before is not None:
        return "repeated", _of_before(before)
    armed = await _arm(held, spec.name)
    if isinstance(armed, tool_steps.CalledBefore):
        return "repeated", _of_before(armed.conversation.tools.get(spec.name))
    if not isinstance(armed, turn.Holds):
        raise TurnOverError(armed)
    work = asyncio.create_task(_carry_out(held, spec, arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # Nobody wants the answer any more, and what has begun is still written down.
        await asyncio.wait((work,))
        raise


async def _arm(
    held: Turn, name: str
) -> turn.Holds | turn.LeaseLost | turn.Silenced | tool_steps.CalledBefore:
    """Raises as the store does, after a few tries: then the tool was not called."""
    lease = held.lease
    note = {"token": lease.token, "at": held.bench.clock.now(), "outcome": "unknown"}
    first = not held.conversation.tools and not held.tools
    result = await held.insist(
        "arm_tool",
        lambda: tool_steps.arm_tool(
            lease.token, name, note, lease.expiry(), head=held.head, first=first
        ),
    )
    conversation = held.read(result)
    answer = tool_steps.after_tool_armed(result, conversation, token=lease.token, name=name)
    if isinstance(answer, turn.Holds):
        lease.extended()
        held.tools[name] = note
    return answer


async def _carry_out(held: Turn, spec: ToolSpec, arguments: Mapping[str, Any]) -> tuple[str, str]:
    outcome, output = await _attempt(held, spec, arguments)
    note = {**held.tools[spec.name], "outcome": outcome, "result": output[:_KEPT_CHARACTERS]}
    held.tools[spec.name] = note
    try:
        await held.bench.store.apply(
            held.key, tool_steps.note_tool(held.lease.token, spec.name, note)
        )
    except DependencyError as error:
        # A later attempt is told that it cannot be known.
        held.bench.failed("note_tool", error)
    return outcome, output


async def _attempt(held: Turn, spec: ToolSpec, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Outcome, and what the model is told."""
    conversation = held.conversation
    context = ToolContext(
        conversation_id=conversation.conversation_id,
        customer=conversation.customer,
        business=conversation.company_tel,
        turn=held.head,
    )
    try:
        return "done", await held.bench.toolbox.run(spec.name, arguments, context)
    except Ambiguous as error:
        held.bench.failed("tool", error)
        return "unknown", f"There was no answer. {_UNKNOWN}"
    except DependencyError as error:
        held.bench.failed("tool", error)
        return "failed", f"It failed: {error.reason}."


def _of_before(noted: object) -> str:
    note = noted if isinstance(noted, Mapping) else {}
    if note.get("outcome", "unknown") == "unknown":
        return f"It was called before for these messages. {_UNKNOWN}"
    return f"It ran before for these messages and runs only once. {note.get('result', '')}"


def _done(held: Turn, name: str, outcome: str, output: str, started: int) -> str:
    bench, now = held.bench, held.bench.clock.now()
    held.account.tools.append(
        {"name": name, "outcome": outcome, "result": output[:_KEPT_CHARACTERS]}
    )
    bench.telemetry.emit(ToolRan(held.key, held.sids, name, outcome, now - started, now))
    return output
