"""A message through two instances, as a collector of traces sees it. The instances share this
process: two of `replyd serve` would show the same, and take ten seconds of CPU to start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from replyd.bootstrap.process import supervisor as open_supervisor
from replyd.runtime.supervisor import Supervisor
from replyd.settings import load
from tests.process.conftest import BUSINESS, CUSTOMER, Town
from tests.support.otlp import Collector

TREE = """\
webhook
  replies send
    turn
      model
      twilio send
      commit"""


@asynccontextmanager
async def serving(town: Town, **changes: str) -> AsyncIterator[Supervisor]:
    """What `replyd serve` does; drains at the end."""
    environ = town.environ(
        REPLYD_TRACES__ENABLED="true", REPLYD_WINDOW__QUIET_SECONDS="0.2", **changes
    )
    async with open_supervisor(load(None, environ)) as supervisor:
        running = asyncio.create_task(supervisor.run())
        await supervisor.ready.wait()
        try:
            yield supervisor
        finally:
            supervisor.stop()
            await running


async def test_a_message_is_one_trace_through_two_instances(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in town.environ().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    # The reports on the reply are requests of Twilio's too, and each begins a trace.
    town.twilio.callback_delays = (600, 600)
    await town.converse()
    with capture_logs(processors=[merge_contextvars]) as lines:
        async with Collector() as collector:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base_url)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
            monkeypatch.setenv("OTEL_SERVICE_NAME", "takes")
            async with serving(town, REPLYD_SERVER__ROLE="webhook") as webhook:
                monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
                monkeypatch.setenv("OTEL_SERVICE_NAME", "answers")
                town.twilio.deliver_to = f"http://127.0.0.1:{webhook.webhooks.port}"
                async with serving(
                    town,
                    REPLYD_SERVER__ROLE="worker",
                    REPLYD_TRACES__ENDPOINT=collector.base_url,
                ):
                    await town.count()
                    answer = await town.twilio.receive(CUSTOMER, "are you open on sunday?")
                    assert answer.status == 200
                    await town.settled(2)
                    # Before the end, which deletes once more what is being deleted.
                    counts = await town.counted()
    assert collector.tree() == TREE
    (ended,) = [line for line in lines if line["event"] == "turn_ended"]
    assert {written.trace_id for written in collector.spans} == {ended["trace_id"]}
    services = {w.span.name: w.resource["service.name"] for w in collector.spans}
    assert services == {
        **dict.fromkeys(["webhook", "replies send"], "takes"),
        **dict.fromkeys(["turn", "model", "twilio send", "commit"], "answers"),
    }
    # As many requests as without traces.
    counts = {k: v for k, v in counts.items() if "GetQueue" not in k}
    assert counts == {"Query": 1, "UpdateItem": 4, "SendMessage": 1, "DeleteMessageBatch": 1}
    assert collector.raw
    for hidden in (CUSTOMER, BUSINESS, "sunday"):
        assert hidden.removeprefix("+").encode() not in collector.raw
