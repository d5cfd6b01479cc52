"""What a trace shows of requests, and of whose."""

from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from replyd.domain.callback import STATUS_PATH
from replyd.errors import Temporary
from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.wire import MESSAGE, REPORT, Site, changed, post, serving, signed_post
from tests.support.spans import Spans, failure, told

THEIRS = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def site(spans: Spans) -> AsyncIterator[Site]:
    async with serving(tracing=spans.tracing) as site:
        yield site


async def test_a_message_begins_a_trace_whatever_its_headers_say(site: Site, spans: Spans) -> None:
    headers = {"traceparent": THEIRS, "tracestate": "theirs=1", "baggage": "theirs=1"}
    answer = await site.ask(signed_post(MESSAGE, headers=headers))
    span = spans.one("webhook")
    assert answer.status == HTTPStatus.OK
    assert span.parent is None
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" != "a" * 32
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": INBOUND_PATH,
        "http.response.status_code": 200,
    }
    assert failure(span) is None


async def test_a_report_has_one_too(site: Site, spans: Spans) -> None:
    target = f"{STATUS_PATH}?p=%2B447700900001&s=c-1&turn=t-1&entry=1"
    answer = await site.ask(signed_post(REPORT, target=target))
    span = spans.one("webhook")
    assert answer.status == told(span, "http.response.status_code") == HTTPStatus.NO_CONTENT
    assert told(span, "http.route") == STATUS_PATH
    assert "447700900001" not in spans.said()


async def test_what_could_not_be_made_durable_failed(site: Site, spans: Spans) -> None:
    site.accept.failure = Temporary("dynamodb", "throttled")
    answer = await site.ask(signed_post(MESSAGE))
    span = spans.one("webhook")
    assert answer.status == told(span, "http.response.status_code") == 503
    assert failure(span) == "not_durable"


async def test_strangers_write_no_spans(site: Site, spans: Spans) -> None:
    forged = [
        post(b"Body=hello"),
        post(b"AccountSid=AC0", signed="wrong"),
        post(b"", target="/admin"),
        signed_post(changed(MESSAGE, AccountSid="AC" + "9" * 32)),
    ]
    statuses = [(await site.ask(request)).status for request in forged]
    assert statuses == [403, 403, 404, 403]
    assert spans.all() == []
