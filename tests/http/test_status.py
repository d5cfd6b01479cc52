"""Delivery callbacks, signed like messages."""

import asyncio
from urllib.parse import urlencode

import pytest

from replyd.domain import record
from replyd.domain.callback import STATUS_PATH, status_callback
from replyd.domain.messages import ConversationKey
from replyd.errors import DependencyDown, Permanent, Temporary
from tests.http.conftest import Log
from tests.http.wire import (
    ACCOUNT,
    MESSAGE,
    ORIGIN,
    REPORT,
    SID,
    Fields,
    Site,
    changed,
    post,
    serving,
    signature,
    signed_post,
)
from tests.support.faults import FaultyHandoffs
from tests.support.world import KEY, World

# What replyd itself puts into the URL, with everything in it that has to be escaped.
TARGET = status_callback(ORIGIN, ConversationKey("+447700900001", "c 1/&é"), "t+1", 2).removeprefix(
    ORIGIN
)


async def test_a_report_is_tracked_with_its_query(site: Site) -> None:
    answer = await site.ask(signed_post(REPORT, target=TARGET))
    assert (answer.status, answer.body) == (204, b"")
    assert site.track.reports == [
        (dict(REPORT), {"p": "+447700900001", "s": "c 1/&é", "turn": "t+1", "entry": "2"})
    ]
    assert site.accept.messages == []
    assert site.refusals == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("?", {}),
        ("?p=1&p=2", {"p": ["1", "2"]}),
        ("?p=&s", {"p": "", "s": ""}),
        ("?p=%FF", {"p": "\ufffd"}),
        ("?p=a?b=c", {"p": "a?b=c"}),
    ],
)
async def test_other_queries(site: Site, query: str, expected: object) -> None:
    answer = await site.ask(signed_post(REPORT, target=STATUS_PATH + query))
    assert answer.status == 204
    assert [query for _, query in site.track.reports] == [expected]


async def test_a_query_without_end(site: Site) -> None:
    answer = await site.ask(signed_post(REPORT, target=STATUS_PATH + "?" + "a&" * 300))
    assert answer.status == 400
    assert site.refusals == [(STATUS_PATH, 400, "too_many_fields")]


async def test_unsigned(site: Site) -> None:
    body = urlencode(REPORT).encode()
    elsewhere = signature(REPORT, target=STATUS_PATH + "?entry=1")
    for signed in (None, "x", signature(REPORT), elsewhere):
        assert (await site.ask(post(body, target=TARGET, signed=signed))).status == 403
    assert site.track.reports == []
    assert [reason for _, _, reason in site.refusals] == ["no_signature"] + ["bad_signature"] * 3
    assert {endpoint for endpoint, _, _ in site.refusals} == {STATUS_PATH}


@pytest.mark.parametrize(
    "fields",
    [
        [("AccountSid", ACCOUNT)],
        changed(REPORT, MessageStatus="", SmsStatus=""),
        changed(REPORT, MessageStatus=None, SmsStatus=None),
        MESSAGE,
        changed(MESSAGE, SmsStatus="receiving"),
    ],
)
async def test_signed_but_no_report(site: Site, fields: Fields) -> None:
    """A message that was sent to this path by mistake must not be lost with a 204."""
    assert (await site.ask(signed_post(fields, target=STATUS_PATH))).status == 400
    assert site.track.reports == []
    assert site.refusals == [(STATUS_PATH, 400, "not_a_status")]


async def test_the_older_name_of_the_status(site: Site) -> None:
    fields = changed(REPORT, MessageStatus=None)
    assert (await site.ask(signed_post(fields, target=STATUS_PATH))).status == 204


@pytest.mark.parametrize(
    "failure",
    [
        Temporary("dynamodb", "throttled"),
        DependencyDown("dynamodb", "unreachable"),
        Permanent("dynamodb", "the item is too large"),
        Temporary("sqs", "throttled"),
    ],
)
async def test_a_store_or_a_queue_that_fails(site: Site, failure: Exception) -> None:
    site.track.failure = failure
    answer = await site.ask(signed_post(REPORT, target=TARGET))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert site.refusals == [(STATUS_PATH, 503, "not_durable")]


async def test_what_people_could_not_be_told_is_asked_for_again() -> None:
    """The whole way: the record has the failure, the queue refuses, Twilio delivers again."""
    world, handoffs = World(), FaultyHandoffs()
    part = {"role": "assistant", "content": "Until six.", "message_id": SID, "turn_id": "t-1"}
    asked = {"role": "user", "content": "Open?", "message_id": "SM1", "turn_id": "t-1"}
    world.converse(messages=[asked, part])
    world.handoffs = handoffs
    handoffs.fail = [Temporary("sqs", "throttled")]
    target = status_callback(ORIGIN, KEY, "t-1", 1).removeprefix(ORIGIN)
    failed = changed(REPORT, MessageStatus="failed", ErrorCode="63024")
    async with serving(track=world.worker().track) as site:
        answers = [await site.ask(signed_post(failed, target=target)) for _ in range(3)]
    assert [a.status for a in answers] == [503, 204, 204]
    (body,) = world.handed_over()
    assert (body["handoff_reason"], body["message"]["body"]) == ("undelivered", "Open?")
    assert world.item()[record.MESSAGES][1]["people_told"] is True


async def test_a_store_that_is_slow() -> None:
    async def track(*_: object) -> None:
        await asyncio.Event().wait()

    async with serving(track=track, durable_within_seconds=0.05) as site:
        assert (await site.ask(signed_post(REPORT, target=TARGET))).status == 503
        assert site.refusals == [(STATUS_PATH, 503, "not_durable")]


async def test_a_bug(site: Site, log: Log) -> None:
    site.track.failure = KeyError("Zk7canary9Q")
    assert (await site.ask(signed_post(REPORT, target=TARGET))).status == 503
    assert site.refusals == [(STATUS_PATH, 503, "bug")]
    logged = log.take()
    assert "KeyError" in logged
    assert "Zk7canary9Q" not in logged
