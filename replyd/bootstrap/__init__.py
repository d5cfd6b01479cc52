"""The one place that knows every part and wires them."""

from replyd.bootstrap.ai import ai_parts
from replyd.bootstrap.connections import dead_letters, store, table_scan, twilio_channel
from replyd.bootstrap.operators import desk, people, reach
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.policies import body_codec, policies
from replyd.bootstrap.process import supervisor
from replyd.bootstrap.secrets import look_up
from replyd.bootstrap.traces import require_traces
from replyd.bootstrap.wiring import Daemon, daemon

__all__ = [
    "Daemon",
    "Parts",
    "ai_parts",
    "body_codec",
    "daemon",
    "dead_letters",
    "desk",
    "look_up",
    "people",
    "policies",
    "reach",
    "require_traces",
    "store",
    "supervisor",
    "table_scan",
    "twilio_channel",
]
