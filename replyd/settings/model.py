"""All settings together."""

from pydantic import BaseModel, model_validator

from replyd.settings.agreement import disagreements
from replyd.settings.groups import (
    FROZEN,
    Ai,
    Aws,
    Conversations,
    Delivery,
    History,
    Logging,
    Ops,
    OptOut,
    Queues,
    Server,
    Turn,
    Twilio,
    UnknownSender,
    Window,
)


class Settings(BaseModel):
    """All settings. `load` reads them; constructing one checks it the same way."""

    model_config = FROZEN

    server: Server = Server()
    ops: Ops = Ops()
    queues: Queues = Queues()
    conversations: Conversations = Conversations()
    window: Window = Window()
    ai: Ai = Ai()
    twilio: Twilio = Twilio()
    turn: Turn = Turn()
    unknown_sender: UnknownSender = UnknownSender()
    opt_out: OptOut = OptOut()
    history: History = History()
    delivery: Delivery = Delivery()
    logging: Logging = Logging()
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
    def grace_seconds(self) -> float:
        """How long after a send without an answer it is looked up whether it arrived."""
        return 2 * self.twilio.timeout_seconds

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if problems := disagreements(self):
            raise ValueError("; ".join(p.sentence for p in problems))
        return self
