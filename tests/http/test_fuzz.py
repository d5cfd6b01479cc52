"""Whatever comes, the answer is one of a few, and it comes."""

import asyncio
import random
from urllib.parse import quote_plus, urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replyd.domain.callback import STATUS_PATH
from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.wire import (
    ACCOUNT,
    MESSAGE,
    OTHER_ACCOUNT,
    REPORT,
    SID,
    TOKEN,
    Answer,
    Fields,
    chunked,
    post,
    read_answer,
    serving,
    signature,
)

STATUSES = {200, 204, 400, 403, 408, 413, 503}
_bounded = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_names = st.sampled_from([name for name, _ in (*MESSAGE, *REPORT)]) | _texts
_values = st.one_of(
    _texts,
    st.sampled_from(["", "0", "-1", "1e9", "٣", "\0", "\ud7ff", "None", "a" * 3000, "=&%+", SID]),
    st.sampled_from([ACCOUNT, OTHER_ACCOUNT, "whatsapp:", "whatsapp:+", "whatsapp:+447700900001"]),
)
_paths = st.sampled_from([INBOUND_PATH, STATUS_PATH])


async def _answer(request: bytes) -> tuple[Answer, int]:
    """On a server of its own, which takes nothing amiss and has a short patience."""
    async with serving(body_timeout_seconds=0.05, header_timeout_seconds=0.05) as site:
        reader, writer = await site.connect()
        writer.write(request)
        async with asyncio.timeout(5):
            answer = await read_answer(reader)
        assert site.server.inflight == 0
        assert all(reason != "bug" for _, _, reason in site.refusals)
        return answer, len(site.accept.messages) + len(site.track.reports)


@_bounded
@given(
    base=st.sampled_from([MESSAGE, REPORT, ()]),
    fields=st.lists(st.tuples(_names, _values), max_size=12),
    replace=st.booleans(),
    path=_paths,
    query=st.from_regex(r"(\?[a-z0-9=&%+./?]{0,30})?", fullmatch=True),
    seed=st.randoms(use_true_random=False),
)
async def test_signed_but_absurd(
    base: Fields, fields: Fields, replace: bool, path: str, query: str, seed: random.Random
) -> None:
    everything = [*(dict(base) | dict(fields)).items()] if replace else [*base, *fields]
    seed.shuffle(everything)
    target = path + query
    body = urlencode(everything).encode()
    signed = signature(everything, target=target, token=TOKEN)
    answer, taken = await _answer(post(body, target=target, signed=signed))
    assert answer.status in STATUSES
    assert taken == (answer.status in (200, 204))


@_bounded
@given(
    body=st.one_of(
        st.binary(max_size=300),
        _texts.map(quote_plus).map(str.encode),
        st.lists(st.tuples(_names, _values), max_size=8).map(urlencode).map(str.encode),
    ),
    signed=st.one_of(
        st.just(""),
        st.just(signature(MESSAGE)),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60),
    ),
    settings_header=st.sampled_from(["", "algorithm=HMAC_SHA256", "algorithm=,key", "é"]),
    content_type=st.sampled_from(["", "application/json", "multipart/form-data", "x; charset=x"]),
    coding=st.sampled_from(["", "gzip", "deflate", "identity"]),
    framing=st.sampled_from(["length", "chunks", "cut", "cut chunks"]),
    path=_paths,
)
async def test_unsigned(
    body: bytes,
    signed: str,
    settings_header: str,
    content_type: str,
    coding: str,
    framing: str,
    path: str,
) -> None:
    headers = {
        "Content-Type": content_type,
        "Content-Encoding": coding,
        "X-Twilio-Webhooks-Signature-Settings": settings_header,
    }
    if "chunks" in framing:
        headers |= {"Content-Length": "", "Transfer-Encoding": "chunked"}
        request = post(signed=signed, headers=headers, target=path) + chunked(body, 7)
    else:
        request = post(body, signed=signed, headers=headers, target=path)
    if "cut" in framing and (body or "chunks" in framing):
        request = request[:-1]
    answer, taken = await _answer(request)
    assert answer.status in STATUSES - {200, 204}
    assert taken == 0


@_bounded
@given(
    st.one_of(
        st.binary(min_size=1, max_size=200).map(lambda noise: noise + b"\r\n\r\n"),
        st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=3)).map(
            lambda change: _damaged(*change)
        ),
    )
)
async def test_hardly_http(request: bytes) -> None:
    """A connection that gets no answer is closed in time."""
    async with serving(body_timeout_seconds=0.25, header_timeout_seconds=0.25) as site:
        reader, writer = await site.connect()
        writer.write(request)
        async with asyncio.timeout(5):
            first = (await reader.readline()).split()
        assert not first or int(first[1]) in STATUSES | {404, 405}
        assert site.server.inflight == 0
        assert all(reason != "bug" for _, _, reason in site.refusals)


def _damaged(at: int, noise: bytes) -> bytes:
    whole = post(urlencode(MESSAGE).encode(), signed=signature(MESSAGE), close=True)
    return whole[:at] + noise + whole[at + len(noise) :]
