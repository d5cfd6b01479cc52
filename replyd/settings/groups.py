"""The settings of the service, by group: their names, types, defaults, limits and meanings.

The docstring below a field is its description in `config/replyd.toml` and
`docs/configuration.md`, which are generated from these models. Durations are seconds.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
)

from replyd.settings.kinds import (
    FROZEN,
    NO_SECRET,
    REQUIRED,
    Count,
    Duration,
    MessageText,
    Name,
    Positive,
)
from replyd.settings.values import (
    as_bearer_token,
    as_origin,
    as_pause,
    as_queue_url,
    as_region,
    as_table,
    as_url,
    as_words,
    uppercased,
    with_failures,
)

DeliveryState = Literal["sent", "delivered", "read", "undelivered", "failed"]
Words = Annotated[tuple[str, ...], AfterValidator(as_words)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Server(BaseModel):
    """The public HTTP server that takes Twilio's webhooks."""

    model_config = FROZEN

    role: Literal["all", "webhook", "worker"] = "all"
    """What this process does: `webhook` takes Twilio's webhooks and runs no turns, `worker` runs
    turns and takes no webhooks, `all` does both."""
    host: Name = "0.0.0.0"  # noqa: S104 - the webhooks come from outside
    """Address to listen on; not used when systemd hands over a socket."""
    port: Port = 8080
    """Port to listen on; 0 takes a free one. Not used when systemd hands over a socket."""
    reuse_port: bool = False
    """Whether other processes of this user may listen on the same port (SO_REUSEPORT): the kernel
    shares the connections out."""
    public_url: Annotated[str, AfterValidator(as_origin)] = Field(
        default="", examples=["https://hooks.example.com"], json_schema_extra=REQUIRED
    )
    """The origin that Twilio calls and signs, such as `https://hooks.example.com`: scheme, host
    and, where Twilio's configuration has one, port. No underscore in the host name: Twilio
    refuses status callbacks to one."""
    max_inflight: Count = 200
    """Requests served at once; further ones get 503. As many more may be sending their bodies: one
    beyond that ends the one that has been at it for longest (408)."""
    max_connections: Count = 1000
    """Connections at once, at most half of the files that the process may open; a further one
    closes the one that has been idle for longest, and never one that has a request."""
    header_timeout_seconds: Positive = 10
    """How long a connection may take to send the headers of a request."""
    body_timeout_seconds: Positive = 10
    """How long a request may take to send its body."""
    drain_seconds: Duration = 75
    """How long turns may take to finish after SIGTERM; what is left becomes visible on the
    queue again."""


class Ops(BaseModel):
    """The HTTP server for `/livez`, `/readyz`, `/healthz`, `/metrics`, and for people's tools."""

    model_config = FROZEN

    host: Name = "127.0.0.1"
    """Address to listen on. Only the operator API asks who is there: keep it off the public
    network."""
    port: Port = 9090
    """Port to listen on; 0 takes a free one."""
    token: Annotated[SecretStr, AfterValidator(as_bearer_token)] = NO_SECRET
    """The bearer token of the operator API, through which people's tools read conversations, answer
    in them, take them from the AI and give them back. At least 16 characters; empty: there is no
    such API. May be a reference, as `ai.api_key`."""


class Queues(BaseModel):
    """The two SQS queues: standard ones, each with a dead-letter queue. `replyd init` makes
    them."""

    model_config = FROZEN

    replies_url: Annotated[str, AfterValidator(as_queue_url)] = Field(
        default="",
        examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/replyd-replies"],
        json_schema_extra=REQUIRED,
    )
    """URL of the queue that carries wake-ups from the webhook to the workers."""
    handoff_url: Annotated[str, AfterValidator(as_queue_url)] = Field(
        default="",
        examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/replyd-handoff"],
        json_schema_extra=REQUIRED,
    )
    """URL of the queue that people's tools take conversations from."""
    visibility_seconds: Annotated[int, Field(ge=1, le=43_200)] | None = Field(
        default=None, examples=[30]
    )
    """How long a wake-up stays hidden unless its holder says it is still alive; a killed holder's
    wake-up hides that long. Whole seconds, at most the lease. Default: 30, or the lease if that is
    shorter."""
    heartbeat_seconds: Positive | None = Field(default=None, examples=[10])
    """How often a holder of wake-ups says that it is alive. Default: a third of
    `visibility_seconds`."""
    wait_seconds: Annotated[int, Field(ge=0, le=20)] = 1
    """How long one receive waits for a message, whole seconds, 0 to 20. A drain waits for the
    receive in flight, so a longer wait makes restarts longer, and fewer requests on an idle queue:
    1 s are 2.6 million a month for each of `queues.receivers`."""
    receivers: Count = 1
    """Receives in flight at once."""
    depth_seconds: Annotated[float, AfterValidator(as_pause)] = 60
    """How often the depth of both queues and of their dead-letter queues is read, four requests
    each time, for the metric `replyd_queue_messages`: at least 5, SQS's counts are no fresher; 0
    reads none."""


class Conversations(BaseModel):
    """The DynamoDB table with one item per conversation."""

    model_config = FROZEN

    table: Annotated[str, AfterValidator(as_table)] = Field(
        default="", examples=["replyd-conversations"], json_schema_extra=REQUIRED
    )
    """Name or ARN of the table."""
    partition_key: Name = "recipient_tel"
    """The table's partition key. It is a string."""
    sort_key: Annotated[str, Field(max_length=255)] = "conversation_id"
    """The table's sort key, a string; empty for a table without one."""
    lookup_index: Annotated[str, Field(max_length=255)] = ""
    """Secondary index that finds a customer's conversations; empty to ask the table itself.
    Indexes are eventually consistent: a conversation that is seconds old may not be found."""
    lookup_key: Annotated[str, Field(max_length=255)] = ""
    """Partition key of `lookup_index`, the attribute with the customer's address. Empty:
    `recipient_tel`. Not used without `lookup_index`."""
    lookup_cache_seconds: Duration = 3
    """How long the answer of a lookup serves for the messages of one burst."""

    @property
    def address_attribute(self) -> str:
        """The attribute by which a customer is looked up."""
        return (self.lookup_key or "recipient_tel") if self.lookup_index else self.partition_key


class Window(BaseModel):
    """When a customer has finished typing."""

    model_config = FROZEN

    quiet_seconds: Duration = 5
    """A burst is over when no message came for this long."""
    max_wait_seconds: Duration = 30
    """A burst is over this long after its first message, whatever comes. At most 900, the longest
    delay SQS has."""
    max_messages: Count = 20
    """A burst is over when it has this many messages."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """How many times a draft is thrown away because further messages came while it was
    written."""


class Turn(BaseModel):
    """Turns, their leases and when to give up. docs/turn-protocol.md explains the terms."""

    model_config = FROZEN

    lease_seconds: Positive = 60
    """How long a worker owns a conversation without a renewal. At least 20."""
    watchdog_seconds: Positive | None = Field(default=None, examples=[15])
    """A process whose event loop stands still for this long is ended. With
    `twilio.timeout_seconds` it must stay below the lease. Default: a quarter of the lease."""
    clock_skew_seconds: Duration = 2
    """How far the clocks of two instances may be apart."""
    max_attempts: Count = 5
    """Attempts at a turn before people get it."""
    give_up_after_seconds: Positive = 180
    """A customer waits no longer than this for the AI; then people get the conversation."""
    on_ambiguous: Literal["resend", "handoff"] = "handoff"
    """What happens when it cannot be found out whether a reply was sent, because Twilio's message
    list cannot be read, or when the attempts are used up over it: `handoff` gives it to people with
    the draft, `resend` sends it, perhaps a second time."""
    apology_text: MessageText = ""
    """What the customer is told, once, when the AI gives up and people get the conversation; at
    most 1600 characters, Twilio's limit. Empty for nothing."""
    concurrency: Count = 100
    """Turns at once in a process."""
    concurrency_per_business: Count | None = Field(default=None, examples=[50])
    """Turns at once in a process for one number of yours, so that a busy one leaves room for the
    others. Default: half of `concurrency`, at least 1."""
    max_held: Count = 1000
    """Conversations whose wake-ups a process holds at once."""


class UnknownSender(BaseModel):
    """What happens to a message from somebody who has no conversation."""

    model_config = FROZEN

    policy: Literal["discard", "create", "notify"] = "discard"
    """`discard` counts and logs it, `create` starts a conversation, `notify` answers with
    `notice_text`, at most once a day per sender."""
    notice_text: MessageText = ""
    """The text that `notify` sends: at most 1600 characters, Twilio's limit."""


class OptOut(BaseModel):
    """Words that end and resume the replies: a whole message, in upper or lower case."""

    model_config = FROZEN

    stop_words: Annotated[Words, Field(min_length=1)] = ("STOP", "STOPALL", "UNSUBSCRIBE")
    """After one of these the AI is silent."""
    start_words: Words = ("START", "UNSTOP")
    """After one of these it answers again."""
    stop_text: MessageText = ""
    """What confirms STOP to the customer, once for each; empty for nothing. Not sent where Twilio
    has answered itself (`OptOutType`). At most 1600 characters, Twilio's limit."""


class History(BaseModel):
    """What the conversation record remembers."""

    model_config = FROZEN

    keep_messages: Annotated[int, Field(ge=2, le=200)] = 50
    """How many entries of the history stay in the record; at one and a half times as many, or at
    48 KB, the oldest ones move to archive items. 2 to 200: a record must stay small."""
    seen_keep: Annotated[int, Field(ge=50, le=1000)] = 500
    """How many SIDs of accepted messages a record keeps to know redeliveries. 50 to 1000: a record
    must stay small."""
    seen_days: Count = 15
    """For how many days it keeps them. More than the 14 days for which SQS can keep a message."""


class Retention(BaseModel):
    """How long the table keeps what is in it, by its time to live on `expires_at`. DynamoDB deletes
    within a few days after that. docs/privacy.md says what is kept where."""

    model_config = FROZEN

    record_days: Days = 0
    """For how many days a conversation is kept after its last turn; 0: for ever, and `expires_at`
    is left alone, also where it was set before. One whose customer has opted out is kept for ever.
    At least `history.seen_days`."""
    archive_days: Days = 0
    """For how many days entries are kept that have left the record for the archive; 0: for ever.
    Required with `record_days`."""


class Delivery(BaseModel):
    """What the conversation record learns of replies on their way."""

    model_config = FROZEN

    record: Annotated[tuple[DeliveryState, ...], AfterValidator(with_failures)] = (
        "undelivered",
        "failed",
    )
    """The states that are written into the record, each at the cost of a write: `sent`,
    `delivered`, `read`. `undelivered` and `failed` always are."""


class Logging(BaseModel):
    """Log lines, on standard error."""

    model_config = FROZEN

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(uppercased)] = (
        "INFO"
    )
    """The least important level that is written: DEBUG, INFO, WARNING or ERROR."""
    format: Literal["auto", "json", "console"] = "auto"
    """`json` for machines, `console` for people, `auto`: console on a terminal, else json."""
    bodies: bool = False
    """Whether texts may be logged: those of a turn, and what errors quote. They are personal
    data."""


class Traces(BaseModel):
    """OpenTelemetry traces, which follow a message through the processes: they go to a collector,
    by OTLP over HTTP. Need `pip install 'replyd[otel]'`. OpenTelemetry's own variables, such as
    OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_HEADERS, keep their meaning."""

    model_config = FROZEN

    enabled: bool = False
    """Whether traces are written."""
    endpoint: Annotated[str, AfterValidator(as_url)] = Field(
        default="", examples=["http://localhost:4318"]
    )
    """The collector's address, to which `/v1/traces` is added. Empty: OTEL_EXPORTER_OTLP_ENDPOINT,
    or `http://localhost:4318`."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1
    """Which part of the messages is traced, from 0 to 1: whole traces, from the webhook on. At 1
    OTEL_TRACES_SAMPLER decides where it is set, and else all are."""


class Aws(BaseModel):
    """Where AWS is. Credentials and `AWS_ENDPOINT_URL` are read by AWS's own library."""

    model_config = FROZEN

    region: Annotated[str, AfterValidator(as_region)] = ""
    """The region, such as `eu-west-1`. Also `AWS_REGION` or `AWS_DEFAULT_REGION`; empty leaves it
    to AWS's configuration files."""

    direct: bool = True
    """Send what messages and turns ask of DynamoDB and SQS as JSON that replyd signs. Without it,
    each request goes through AWS's library, which takes about three times the CPU time; for an
    endpoint or proxy that refuses replyd's requests."""
