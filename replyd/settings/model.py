"""All settings together."""

from pydantic import BaseModel, Field, model_validator

from replyd.settings.agreement import disagreements
from replyd.settings.ai import Ai
from replyd.settings.catch_up import CatchUp
from replyd.settings.groups import (
    Aws,
    Conversations,
    Delivery,
    History,
    Logging,
    Ops,
    OptOut,
    Queues,
    Retention,
    Server,
    Traces,
    Turn,
    UnknownSender,
    Window,
)
from replyd.settings.kinds import FROZEN, Name, ToolName
from replyd.settings.limits import Limits, Price
from replyd.settings.media import Media, Moderation, Voice
from replyd.settings.sending import Sending
from replyd.settings.tools import EXAMPLES, Tool
from replyd.settings.twilio import Twilio

_EXAMPLE_PRICE = {"input": 0.5, "cached_input": 0.05, "output": 4}


class Settings(BaseModel):
    """All settings. `load` reads them; constructing one checks it the same way."""

    model_config = FROZEN

    server: Server = Server()
    ops: Ops = Ops()
    queues: Queues = Queues()
    conversations: Conversations = Conversations()
    window: Window = Window()
    ai: Ai = Ai()
    tools: dict[ToolName, Tool] = Field(default_factory=dict, examples=[EXAMPLES])
    voice: Voice = Voice()
    media: Media = Media()
    moderation: Moderation = Moderation()
    limits: Limits = Limits()
    prices: dict[Name, Price] = Field(
        default_factory=dict,
        examples=[{"gpt-6-luna": _EXAMPLE_PRICE}],
        description="The figures below are an example and no official prices.",
    )
    twilio: Twilio = Twilio()
    sending: Sending = Sending()
    turn: Turn = Turn()
    unknown_sender: UnknownSender = UnknownSender()
    opt_out: OptOut = OptOut()
    catchup: CatchUp = CatchUp()
    history: History = History()
    retention: Retention = Retention()
    delivery: Delivery = Delivery()
    logging: Logging = Logging()
    traces: Traces = Traces()
    aws: Aws = Aws()

    @property
    def visibility_seconds(self) -> int:
        """`queues.visibility_seconds`, or what its absence means. Whole seconds."""
        if self.queues.visibility_seconds is not None:
            return self.queues.visibility_seconds
        return int(min(30, self.turn.lease_seconds))

    @property
    def heartbeat_seconds(self) -> float:
        """`queues.heartbeat_seconds`, or what its absence means."""
        return self.queues.heartbeat_seconds or self.visibility_seconds / 3

    @property
    def watchdog_seconds(self) -> float:
        """`turn.watchdog_seconds`, or what its absence means."""
        return self.turn.watchdog_seconds or self.turn.lease_seconds / 4

    @property
    def concurrency_per_business(self) -> int:
        """`turn.concurrency_per_business`, or what its absence means."""
        return self.turn.concurrency_per_business or max(1, self.turn.concurrency // 2)

    @property
    def grace_seconds(self) -> float:
        """How long after a send without an answer it is looked up whether it arrived."""
        return 2 * self.twilio.timeout_seconds

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if problems := disagreements(self):
            raise ValueError("; ".join(p.sentence for p in problems))
        return self
