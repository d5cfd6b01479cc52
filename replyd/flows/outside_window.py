"""Outside WhatsApp's 24-hour window: people, or the template of the settings."""

from collections.abc import Sequence

from replyd.domain import address, content_template, effects, session_window, turn
from replyd.domain.content_template import ContentTemplate
from replyd.domain.record import Conversation, Entry
from replyd.flows.compose import Draft
from replyd.flows.person_answer import Declined, Request
from replyd.flows.send import Route
from replyd.flows.workbench import Turn, Workbench

_DETAIL = "the customer's last message is about 24 hours old: WhatsApp takes no free text"
_WHAT_TO_DO = (
    f"{_DETAIL} now. Wait until they write, ask them to by another way, or set "
    "sending.template_sid to a template that WhatsApp has approved"
)


def is_closed(held: Turn) -> bool:
    """Whether free text to the customer whose messages were taken would be refused."""
    newest = held.taken[-1].message if held.taken else None
    if newest is None or newest.channel != "whatsapp":
        return False
    now = held.bench.clock.now()
    return session_window.is_closed(held.conversation, now=now, newest=newest)


def for_people(held: Turn) -> effects.HandOver | None:
    """The handoff, where the AI may not answer any more."""
    if held.bench.session.outside == "template" or not is_closed(held):
        return None
    maybe = held.unsent if held.may_have_sent else None
    return effects.HandOver(turn.WINDOW_CLOSED, held.pending, _DETAIL, maybe_sent=maybe)


def fitted(held: Turn, draft: Draft) -> Draft:
    """The draft as it can go out: outside of the window one part, the template's."""
    template = held.bench.session.template
    if template is None or not is_closed(held):
        return draft
    whole = "\n\n".join(str(part.get("content", "")) for part in draft)
    name = held.taken[-1].message.profile_name
    text = template.shortened(whole, name)
    part: Entry = {**draft[0], "content": text}
    if not template.fits(whole, name):
        # A thread that holds more than the customer gets must not go on.
        part.pop("response_id", None)
    return ({**part, content_template.ATTRIBUTE: template.attribute(text, name)},)


def of_person(
    bench: Workbench, conversation: Conversation, request: Request, route: Route
) -> ContentTemplate | Declined | None:
    """What a person's answer goes out as; None for free text."""
    if address.channel(route.recipient) != "whatsapp":
        return None
    if not session_window.is_closed(conversation, now=bench.clock.now()):
        return None
    template, name = bench.session.template, _profile_name(conversation)
    if template is None:
        return Declined("window_closed", _WHAT_TO_DO)
    if len(request.parts) == 1 and template.fits(request.parts[0], name):
        return template
    room = template.room(name)
    return Declined(
        "window_closed", f"{_DETAIL} now, and the template at most {room} characters: shorten it"
    )


def filled(
    template: ContentTemplate, conversation: Conversation, entries: Sequence[Entry]
) -> tuple[Entry, ...]:
    """The entries of a person's answer, to go out as the template."""
    name = _profile_name(conversation)
    return tuple(
        {**entry, content_template.ATTRIBUTE: template.attribute(str(entry["content"]), name)}
        for entry in entries
    )


def _profile_name(conversation: Conversation) -> str:
    """As far as the record knows it: of messages that are pending."""
    names = [p.message.profile_name for p in conversation.pending if p.message is not None]
    return names[-1] if names else ""
