"""Finding all that there is of a customer. Reads only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from replyd.domain import address, erasure, record
from replyd.domain.history import archive_name
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Item, conversation_from
from replyd.errors import DependencyError
from replyd.flows.accept_message import body_name, notice_name
from replyd.flows.contents import words_name
from replyd.flows.find_conversation import ALIAS_OF, alias_name
from replyd.flows.forget.at_once import at_once
from replyd.flows.forget.receipt import Receipt
from replyd.ports import (
    Clock,
    ConversationStore,
    Ids,
    Kept,
    KeptMessage,
    MessageEraser,
    ThreadEraser,
    WholeTable,
    part_of,
)

# Twilio documents ten files a message.
_MAX_FILES = 10
# The lookup wants a SID to look for; no message has this one.
_NO_SID = "none"
WHAT: Mapping[str, str] = {
    "response": "responses",
    "item": "conversation items",
    "conversation": "conversations",
    "file": "files",
    "thread": "threads",
}

# Called with what is being done, how much of it is done, and how much there is.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Reach:
    """What erasing works with. `accounts`: SIDs. `threads`: by the names of the profiles whose key
    and server it is. `profile_of`: the name of a conversation's profile."""

    store: ConversationStore
    table: WholeTable
    messages: MessageEraser
    accounts: Sequence[str]
    threads: Sequence[tuple[frozenset[str], ThreadEraser]]
    profile_of: Callable[[Conversation], str]
    clock: Clock
    ids: Ids
    owner: str
    lease_ms: int
    skew_ms: int
    address_attribute: str
    key_names: tuple[str, ...]
    profile_attribute: str = record.PROFILE
    assistant_attribute: str = record.ASSISTANT_ID

    def read(self, key: ConversationKey, item: Item) -> Conversation:
        return conversation_from(
            item,
            key,
            address_attribute=self.address_attribute,
            profile_attribute=self.profile_attribute,
            assistant_attribute=self.assistant_attribute,
        )


@dataclass(frozen=True, slots=True)
class Side:
    """A side item by its name and part."""

    what: str
    name: str
    part: str = ""


@dataclass(slots=True)
class Found:
    """`sides` are where something may lie, `archived` is there. `threads`: what is kept of each, in
    its order, and by whom."""

    records: dict[ConversationKey, Item] = field(default_factory=dict)
    archived: list[Side] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    messages: dict[str, KeptMessage] = field(default_factory=dict)
    # Known by a record, and in no list: of any of the accounts.
    unlisted: set[str] = field(default_factory=set)
    threads: list[tuple[ThreadEraser, list[Kept]]] = field(default_factory=list)


async def names_of(reach: Reach, customer: str) -> tuple[tuple[str, ...], list[Side]]:
    """All names of a customer, the one asked for first, and the alias items that say so, in the
    order in which they have to be erased."""
    names: dict[str, None] = {customer: None}
    aliases: dict[Side, None] = {}
    own = Side("aliases", alias_name(customer))
    if not address.is_number(customer) and (alias := await reach.store.get_side(own.name)):
        aliases[own] = None
        number = alias.get(ALIAS_OF)
        if isinstance(number, str) and number:
            names[number] = None
    for number in [name for name in names if address.is_number(name)]:
        group = alias_name(number)
        async for page in reach.table.parts(group):
            for key, _ in page.items:
                other = part_of(key, group)
                names[other] = None
                aliases[Side("aliases", alias_name(other))] = None
                aliases[Side("aliases", group, other)] = None
    # Those that lead on from here go last, or a run that is cut off would be the last to find them.
    return tuple(names), sorted(aliases, key=lambda side: side.name == own.name)


async def records_of(reach: Reach, names: Iterable[str]) -> list[ConversationKey]:
    found = [await reach.store.lookup(name, _NO_SID) for name in names]
    return sorted(
        {c.key for candidates in found for c in candidates}, key=lambda k: (k.partition, k.sort)
    )


async def survey(
    reach: Reach, receipt: Receipt, records: Mapping[ConversationKey, Item], tell: Tell
) -> Found:
    """What these records, the customer's names and the vendors lead to. What could not be read is
    left in the receipt. Raises as the store does."""
    found = Found(records=dict(records))
    sids: set[str] = set()
    threads: dict[str, str] = {}
    for key, item in records.items():
        conversation = reach.read(key, item)
        profile = reach.profile_of(conversation)
        sids |= erasure.sids_of(conversation)
        threads |= dict.fromkeys(erasure.threads_of(conversation), profile)
        found.sides += [Side(_APART, p.body_ref) for p in conversation.pending if p.body_ref]
        name = archive_name(conversation.conversation_id)
        async for page in reach.table.parts(name):
            for place, archive in page.items:
                found.archived.append(Side("archive items", name, part_of(place, name)))
                entries = archive.get("messages")
                entries = entries if isinstance(entries, list) else []
                sids |= set(erasure.sids_in(entries))
                threads = dict.fromkeys(erasure.threads_in(entries), profile) | threads
    await _messages(reach, receipt, found, tell)
    found.unlisted = sids - found.messages.keys()
    found.sides += _sides(found)
    found.sides += [Side("notices", notice_name(name)) for name in receipt.names]
    await _threads(reach, receipt, found, threads, tell)
    receipt.find("table", "conversations", len(records))
    receipt.find("table", "archive items", len(found.archived))
    receipt.find("twilio", "messages", len(found.messages) + len(found.unlisted))
    for _, kept in found.threads:
        for what in kept:
            receipt.find("openai", WHAT[what.kind], 1)
    return found


_APART = "texts and words kept apart"


def _sides(found: Found) -> list[Side]:
    """Where texts and words may lie that belong to these messages."""
    files = {m.sid: m.files for m in found.messages.values() if m.inbound}
    files |= dict.fromkeys(found.unlisted, _MAX_FILES)
    named = [body_name(sid) for sid in files]
    named += [words_name(sid, n) for sid, count in files.items() for n in range(count)]
    return [Side(_APART, name) for name in named]


async def _messages(reach: Reach, receipt: Receipt, found: Found, tell: Tell) -> None:
    """Each account's lists, both directions, WhatsApp and SMS."""
    asked = [
        (account, customer)
        for account in reach.accounts
        for name in receipt.names
        for customer in addresses_of(name)
    ]
    for done, (account, customer) in enumerate(asked):
        tell("looking through Twilio's messages", done, len(asked))
        try:
            listed = await reach.messages.exchanged_with(account, customer)
        except DependencyError as error:
            receipt.leave("twilio", "lists of messages", error.reason)
            continue
        if not listed.whole:
            receipt.leave(
                "twilio", "lists of messages", "there are more than can be listed at once"
            )
        found.messages |= {message.sid: message for message in listed.messages}


def addresses_of(name: str) -> tuple[str, ...]:
    """How a customer of this name is addressed: by WhatsApp, and a number also by SMS."""
    by_whatsapp = f"{address.WHATSAPP_PREFIX}{name}"
    return (by_whatsapp, name) if address.is_number(name) else (by_whatsapp,)


async def _threads(
    reach: Reach, receipt: Receipt, found: Found, threads: Mapping[str, str], tell: Tell
) -> None:
    """`threads`: the name of the profile by the id. Those of one chain are known by its newest."""
    known: set[Kept] = set()
    for done, (thread_id, profile) in enumerate(threads.items()):
        tell("looking through OpenAI's threads", done, len(threads))
        if any(what.id == thread_id for what in known):
            continue
        failures: list[str] = []
        # A conversation may have changed its profile since: whoever knows the thread has it.
        for _, eraser in sorted(reach.threads, key=lambda vendor: profile not in vendor[0]):
            try:
                kept = await eraser.kept(thread_id)
            except DependencyError as error:
                failures.append(error.reason)
                continue
            if kept:
                found.threads.append((eraser, [what for what in kept if what not in known]))
                known.update(kept)
                break
        else:
            for reason in dict.fromkeys(failures):
                receipt.leave("openai", "threads", reason)


async def look_apart(reach: Reach, receipt: Receipt, found: Found) -> None:
    """Count the side items that are really there, which costs a read for each."""

    async def look(side: Side) -> None:
        if await reach.store.get_side(side.name) is not None:
            receipt.find("table", side.what, 1)

    await at_once(look, found.sides)
