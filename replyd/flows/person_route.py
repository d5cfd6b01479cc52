"""Where a person's answer goes: the account, the business number, the customer."""

from collections.abc import Collection, Sequence

from replyd.domain import address, record
from replyd.domain.record import Conversation
from replyd.flows.person_answer import Declined, Request
from replyd.flows.send import Route
from replyd.ports import Channel


class Routes:
    """`accounts`: the account SIDs of the settings."""

    def __init__(self, channel: Channel, accounts: Collection[str]) -> None:
        self._channel = channel
        self._accounts = tuple(accounts)

    def __call__(self, conversation: Conversation, request: Request) -> Route | Declined:
        pending = [p.message for p in conversation.pending if p.message is not None]
        business = conversation.company_tel or (pending[-1].business if pending else "")
        if not business:
            return Declined(
                "no_business_number",
                "the record has no company_tel to send from: set it to the business number",
            )
        if not (account := self._account(request, [m.account_sid for m in pending])):
            return Declined(
                "unknown_account",
                "it cannot be told which of the Twilio accounts in the settings this conversation "
                "belongs to: name one of them as account_sid",
            )
        prefix = "" if _wrote_by(conversation) == "sms" else address.WHATSAPP_PREFIX
        return Route(
            account, *(prefix + address.bare(n) for n in (business, conversation.customer))
        )

    def _account(self, request: Request, seen: Sequence[str]) -> str:
        if request.account_sid:
            known = self._channel.knows_account(request.account_sid)
            return request.account_sid if known else ""
        if seen and seen[-1]:
            return seen[-1]
        return self._accounts[0] if len(self._accounts) == 1 else ""


def _wrote_by(conversation: Conversation) -> object:
    """The channel of the customer's newest message, where it is known not to be WhatsApp."""
    pending = [p.message for p in conversation.pending if p.message is not None]
    if pending:
        return pending[-1].channel
    said = [e for e in conversation.messages if e.get("role") == "user"]
    return said[-1].get(record.CHANNEL) if said else None
