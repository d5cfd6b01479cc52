"""The media library against Twilio's double, and against servers that mean it harm."""

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from replyd.adapters.twilio.media import MAX_REDIRECTS, MEDIA_HOSTS, TwilioMedia
from replyd.demo.loopback import LoopbackServer
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import Media
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary

ACCOUNT, OTHER_ACCOUNT = "AC" + "1" * 32, "AC" + "2" * 32
TOKEN = "a-token-that-nobody-else-may-see"
MEDIA_SID = "ME" + "0123456789abcdef" * 2
RESOURCE = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/MM{'3' * 32}/Media/{MEDIA_SID}"
JPEG = {"Content-Type": "image/jpeg"}
LIMIT = 50_000

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Make = Callable[..., TwilioMedia]


class Naps:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


class Origin(LoopbackServer):
    """Gives its answers in line, the last one again and again; `calls` are paths and headers."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self.calls: list[tuple[str, Mapping[str, str]]] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/{path:.*}", self._answer)]

    @property
    def authorizations(self) -> list[str]:
        return [h["Authorization"] for _, h in self.calls if "Authorization" in h]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.raw_path, request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


class Nowhere(AbstractResolver):
    """Knows no host, and remembers for which it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, host: str, *_asked: object, **_more: object) -> list[ResolveResult]:
        self.asked.append(host)
        raise OSError("no such host")

    async def close(self) -> None:
        """Nothing is open."""


def plain(
    status: int = 200, body: bytes = b"JFIF", headers: Mapping[str, str] | None = None
) -> Answer:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=JPEG if headers is None else headers)

    return answer


def redirect(location: str, status: int = 307) -> Answer:
    return plain(status, b"", {"Location": location})


def streamed(chunk: bytes, pause: float = 0.0, *, length: int | None = None) -> Answer:
    """The same chunk without end. `length`: what is announced, else chunks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=JPEG)
        response.content_length = length
        await response.prepare(request)
        while True:
            await response.write(chunk)
            await asyncio.sleep(pause)

    return answer


@pytest.fixture
async def api() -> AsyncIterator[Origin]:
    """Stands for Twilio's API."""
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def cdn() -> AsyncIterator[Origin]:
    """Stands for Twilio's media host."""
    async with Origin() as origin:
        origin.answers = [plain()]
        yield origin


@pytest.fixture
async def stranger() -> AsyncIterator[Origin]:
    """A host that nobody has named."""
    async with Origin() as origin:
        origin.answers = [plain()]
        yield origin


@pytest.fixture
def nowhere() -> Nowhere:
    return Nowhere()


@pytest.fixture
async def session(nowhere: Nowhere) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(resolver=nowhere)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def make(session: aiohttp.ClientSession, api: Origin, cdn: Origin, naps: Naps) -> Make:
    def build(**settings: Any) -> TwilioMedia:
        defaults: dict[str, Any] = {
            "accounts": {ACCOUNT: [TOKEN]},
            "base_url": api.base_url,
            "media_hosts": [cdn.base_url],
            "max_bytes": LIMIT,
            "timeout_seconds": 5.0,
            "sleep": naps,
        }
        return TwilioMedia(session, **(defaults | settings))

    return build


def media(api: Origin, content_type: str = "image/jpeg") -> Media:
    return Media(api.base_url + RESOURCE, content_type)


async def failure(
    library: TwilioMedia, wanted: Media, account_sid: str = ACCOUNT
) -> DependencyError:
    """The error of a fetch that must fail, checked for what no error may show."""
    with pytest.raises(DependencyError) as caught:
        await library.fetch(wanted, account_sid)
    error = caught.value
    assert error.dependency == "twilio"
    for secret in (TOKEN, wanted.url, MEDIA_SID, "secret-link"):
        assert secret not in str(error)
    return error


# --- what is fetched, and where the credentials go -----------------------------------------------


async def test_a_file_of_the_double(session: aiohttp.ClientSession) -> None:
    async with TwilioDouble(account_sid=ACCOUNT, auth_token=TOKEN) as double:
        library = TwilioMedia(
            session,
            accounts={ACCOUNT: [TOKEN]},
            base_url=double.base_url,
            media_hosts=[double.media.cdn.base_url],
        )
        url = double.add_media("audio/ogg", b"OggS")
        file = await library.fetch(Media(url, "audio/ogg; codecs=opus"), ACCOUNT)
        assert (file.content_type, file.data) == ("audio/ogg", b"OggS")
        assert file.name == url.rpartition("/")[2] + ".ogg"
        assert double.media.cdn.served == 1
        assert double.media.cdn.authorizations == []


async def test_credentials_go_to_the_api_and_not_where_it_redirects_to(
    make: Make, api: Origin, cdn: Origin
) -> None:
    api.answers = [redirect(f"{cdn.base_url}/a/b?Signature=secret-link~x_")]
    await make().fetch(media(api), ACCOUNT)
    expected = "Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    assert api.authorizations == [expected]
    assert [path for path, _ in cdn.calls] == ["/a/b?Signature=secret-link~x_"]
    assert cdn.authorizations == []


async def test_the_api_may_give_the_file_itself(make: Make, api: Origin) -> None:
    api.answers = [plain()]
    assert (await make().fetch(media(api), ACCOUNT)).data == b"JFIF"


async def test_the_name_is_never_the_servers(make: Make, api: Origin) -> None:
    headers = JPEG | {"Content-Disposition": 'attachment; filename="../../etc/passwd"'}
    api.answers = [plain(headers=headers)]
    assert (await make().fetch(media(api), ACCOUNT)).name == f"{MEDIA_SID}.jpg"


async def test_the_other_token_of_a_rotation(make: Make, api: Origin, cdn: Origin) -> None:
    api.answers = [plain(401), redirect(f"{cdn.base_url}/a/b")]
    library = make(accounts={ACCOUNT: ["newest", "", "older"]})
    await library.fetch(media(api), ACCOUNT)
    used = [base64.b64decode(a.removeprefix("Basic ")).decode() for a in api.authorizations]
    assert used == [f"{ACCOUNT}:newest", f"{ACCOUNT}:older"]


@pytest.mark.parametrize(("status", "calls"), [(401, 2), (403, 1)])
async def test_refused_credentials(make: Make, api: Origin, status: int, calls: int) -> None:
    api.answers = [plain(status)]
    error = await failure(make(accounts={ACCOUNT: ["newest", "older"]}), media(api))
    assert (type(error), len(api.calls)) == (DependencyDown, calls)


@pytest.mark.parametrize("tokens", [{}, {ACCOUNT: []}, {ACCOUNT: [""]}])
async def test_an_account_without_a_token(
    make: Make, api: Origin, tokens: dict[str, list[str]]
) -> None:
    error = await failure(make(accounts=tokens), media(api))
    assert (type(error), error.code, api.calls) == (Permanent, "unknown_account", [])


# --- which media URLs are the account's ----------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["api.twilio.com", "api.ie1.twilio.com", "api.dublin.ie1.twilio.com"]
)
@pytest.mark.parametrize("own", ["", "https://twilio-proxy.example.com"])
async def test_twilios_hosts_may_have_the_credentials(
    make: Make, nowhere: Nowhere, host: str, own: str
) -> None:
    error = await failure(make(base_url=own), Media(f"https://{host}{RESOURCE}", ""))
    assert (type(error), error.code) == (Temporary, "unreachable")
    assert set(nowhere.asked) == {host}


async def test_so_may_the_host_that_is_configured(make: Make, nowhere: Nowhere) -> None:
    own = "https://twilio-proxy.example.com"
    library = make(base_url=own + "/")
    await failure(library, Media(own + RESOURCE, ""))
    assert set(nowhere.asked) == {"twilio-proxy.example.com"}
    nowhere.asked.clear()
    for other in ("https://twilio-proxyXexample.com", "http://twilio-proxy.example.com"):
        assert (await failure(library, Media(other + RESOURCE, ""))).code == "url"
    assert nowhere.asked == []


@pytest.mark.parametrize(
    "origin",
    [
        "http://api.twilio.com",
        "HTTPS://api.twilio.com",
        "//api.twilio.com",
        "file://api.twilio.com",
        "https://api.twilio.com:8443",
        "https://api.twilio.com:443",
        "https://api.twilio.com.",
        "https://api.twilio.com.evil.example",
        "https://api.twilio.com@evil.example",
        "https://evil.example#@api.twilio.com",
        "https://evil.example/?https://api.twilio.com",
        "https://evil.example\\@api.twilio.com",
        "https://evil.example\n@api.twilio.com",
        "\nhttps://api.twilio.com",
        "https://user:password@api.twilio.com",
        "https://apiXtwilio.com",
        "https://evilapi.twilio.com",
        "https://evil-api.twilio.com",
        "https://twilio.com",
        "https://mms.twiliocdn.com",
        "https://api.a.b.c.twilio.com",
        "https://api.evil.example/.twilio.com",
        "https://api.evil.example%2f.twilio.com",
        "https://аpi.twilio.com",  # a Cyrillic letter
        "https://127.0.0.1",
        "https://[::1]",
        "https://169.254.169.254",
        "https://2130706433",
        "https://localhost",
        "",
    ],
)
async def test_other_hosts_may_not(make: Make, nowhere: Nowhere, origin: str) -> None:
    error = await failure(make(), Media(origin + RESOURCE, "image/jpeg"))
    assert (type(error), error.code, nowhere.asked) == (Permanent, "url", [])


async def test_an_unnamed_host_gets_no_request(make: Make, stranger: Origin) -> None:
    error = await failure(make(), media(stranger))
    assert (type(error), error.code, stranger.calls) == (Permanent, "url", [])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        f"{RESOURCE}.json",
        f"{RESOURCE}/",
        f"{RESOURCE}\n",
        f"{RESOURCE}?x=1",
        f"{RESOURCE}#x",
        f"{RESOURCE}/../../../../Calls.json",
        RESOURCE.replace("/Media/", "/Media/../Media/"),
        RESOURCE.replace("/Media/", "/%4dedia/"),
        RESOURCE.replace("/Media/", "//Media/"),
        RESOURCE.replace("2010-04-01", "2008-08-01"),
        RESOURCE.replace("ME0", "MEg"),
        RESOURCE.replace("ME0", "ME"),
        RESOURCE.replace("/MM", "/CA"),
        RESOURCE.replace(ACCOUNT, OTHER_ACCOUNT),
        RESOURCE.replace(ACCOUNT, f"{ACCOUNT}/../{OTHER_ACCOUNT}"),
        f"/2010-04-01/Accounts/{ACCOUNT}.json",
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
    ],
)
async def test_only_media_of_the_account_is_asked_for(make: Make, api: Origin, path: str) -> None:
    api.answers = [plain()]
    library = make(accounts={ACCOUNT: [TOKEN], OTHER_ACCOUNT: [TOKEN]})
    error = await failure(library, Media(api.base_url + path, "image/jpeg"))
    assert (type(error), error.code, api.calls) == (Permanent, "url", [])


# --- where redirects may lead --------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_every_kind_of_redirect(make: Make, api: Origin, cdn: Origin, status: int) -> None:
    api.answers = [redirect(f"{cdn.base_url}/a", status)]
    assert (await make().fetch(media(api), ACCOUNT)).data == b"JFIF"


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://mms.twiliocdn.com/AC1/ab?Expires=1&Signature=a~b-_&Key-Pair-Id=K", "mms."),
        ("https://media.twiliocdn.com/AC1/ab", "media."),
        ("https://eu.media.twiliocdn.com/AC1/ab", "eu.media."),
    ],
)
async def test_twilios_media_hosts(
    make: Make, nowhere: Nowhere, api: Origin, location: str, host: str
) -> None:
    api.answers = [redirect(location)]
    library = make(media_hosts=MEDIA_HOSTS)
    error = await failure(library, media(api))
    assert (type(error), error.code) == (Temporary, "unreachable")
    assert set(nowhere.asked) == {host + "twiliocdn.com"}


async def test_twilios_bucket(make: Make, nowhere: Nowhere, api: Origin) -> None:
    host = "s3-external-1.amazonaws.com"
    api.answers = [redirect(f"https://{host}/media.twiliocdn.com/AC1/ab")]
    library = make(media_hosts=MEDIA_HOSTS)
    assert (await failure(library, media(api))).code == "unreachable"
    assert set(nowhere.asked) == {host}


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/relative",
        "//mms.twiliocdn.com/a",
        "http://mms.twiliocdn.com/a",
        "https://mms.twiliocdn.com",
        "https://mms.twiliocdn.com:8443/a",
        "https://mms.twiliocdn.com./a",
        "https://mms.twiliocdn.com.evil.example/a",
        "https://mms.twiliocdn.com@evil.example/a",
        "https://user@mms.twiliocdn.com/a",
        "https://evil.example\\.twiliocdn.com/a",
        "https://evil.example/.twiliocdn.com/a",
        "https://evil.example?.twiliocdn.com/a",
        "https://eviltwiliocdn.com/a",
        "https://.twiliocdn.com/a",
        "https://twiliocdn.com/a",
        "https://mmsXtwiliocdn.com/a",
        "https://mms.twiliocdnXcom/a",
        "https://s3-external-1Xamazonaws.com/media.twiliocdn.com/a",
        "https://s3-external-1.amazonaws.com/mediaXtwiliocdn.com/a",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com/%2fanother-bucket/a",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com/a%2f..%2f..%2fanother-bucket/a",
        "https://api.twilio.com" + RESOURCE,
        "https://s3-external-1.amazonaws.com/another-bucket/a",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com.evil/a",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com/../another-bucket/a",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com/%2e%2e/another-bucket/a",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com/a/..%2f..%2fanother-bucket",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com//another-bucket/a",
        "https://s3.amazonaws.com/media.twiliocdn.com/a",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "data:image/jpeg;base64,SkZJRg==",
    ],
)
async def test_redirects_lead_nowhere_else(
    make: Make, nowhere: Nowhere, api: Origin, location: str
) -> None:
    api.answers = [redirect(location)]
    library = make(media_hosts=MEDIA_HOSTS)
    error = await failure(library, media(api))
    assert (type(error), error.code, nowhere.asked) == (Permanent, "redirect", [])
    assert len(api.calls) == 1


@pytest.mark.parametrize("by", ["api", "cdn"])
async def test_an_unnamed_host_gets_no_redirect(
    make: Make, api: Origin, cdn: Origin, stranger: Origin, by: str
) -> None:
    api.answers = cdn.answers = [redirect(f"{stranger.base_url}/a")]
    if by == "cdn":
        api.answers = [redirect(f"{cdn.base_url}/a")]
    error = await failure(make(), media(api))
    assert (type(error), error.code, stranger.calls) == (Permanent, "redirect", [])


async def test_a_redirect_does_not_lead_back_to_the_api(
    make: Make, api: Origin, cdn: Origin
) -> None:
    api.answers = [redirect(f"{cdn.base_url}/a")]
    cdn.answers = [redirect(api.base_url + RESOURCE)]
    assert (await failure(make(), media(api))).code == "redirect"
    assert len(api.calls) == 1


async def test_a_few_redirects_are_followed(make: Make, api: Origin, cdn: Origin) -> None:
    more = [redirect(f"{cdn.base_url}/{n}") for n in range(MAX_REDIRECTS)]
    api.answers, cdn.answers = more[:1], [*more[1:], plain()]
    assert (await make().fetch(media(api), ACCOUNT)).data == b"JFIF"
    assert cdn.authorizations == []


async def test_a_loop_of_redirects_ends(make: Make, api: Origin, cdn: Origin) -> None:
    api.answers = cdn.answers = [redirect(f"{cdn.base_url}/again")]
    error = await failure(make(), media(api))
    assert (type(error), error.code) == (Permanent, "redirect")
    assert len(cdn.calls) == MAX_REDIRECTS


# --- how much, and for how long ------------------------------------------------------------------


async def test_an_announced_length_above_the_limit_is_not_waited_for(
    make: Make, api: Origin
) -> None:
    api.answers = [streamed(b"", 0.01, length=LIMIT + 1)]
    error = await failure(make(), media(api))
    assert (type(error), error.code) == (Permanent, "size")


async def test_a_stream_without_end_is_left_at_the_limit(make: Make, api: Origin) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers=JPEG)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)
            sent += 1000

    api.answers = [endless]
    error = await failure(make(), media(api))
    assert (type(error), error.code) == (Permanent, "size")
    # What the sockets hold is sent besides.
    assert LIMIT < sent < LIMIT + 8 * 1024 * 1024


async def raw(reply: bytes) -> asyncio.Server:
    """Answers with these bytes, whatever they are, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def head(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: image/jpeg", *lines, "", ""]).encode()


BODY = b"x" * (LIMIT * 4)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (head("Content-Length: 100") + b"x" * 99, Temporary),
        (head(f"Content-Length: {LIMIT}") + BODY[: LIMIT - 1], Temporary),
        (head("Content-Length: 100", "Transfer-Encoding: chunked") + BODY, Temporary),
        (head("Content-Length: -1") + BODY, Temporary),
        (head("Content-Length: x") + BODY, Temporary),
        (head("Content-Length: 10", "Content-Length: 999999999") + BODY, Temporary),
        (head("Connection: close") + BODY, Permanent),
        (
            head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
            Permanent,
        ),
        (head("Transfer-Encoding: chunked") + b"5\r\nabcde\r\n", Temporary),
        (b"no HTTP at all\r\n\r\n", Temporary),
        (b"", Temporary),
    ],
)
async def test_a_length_that_lies(make: Make, reply: bytes, kind: type[DependencyError]) -> None:
    server = await raw(reply)
    async with server:
        port = server.sockets[0].getsockname()[1]
        own = f"http://127.0.0.1:{port}"
        error = await failure(make(base_url=own), Media(own + RESOURCE, ""))
    assert type(error) is kind
    assert error.code == ("size" if kind is Permanent else "disconnected")


@pytest.mark.parametrize("length", [None, LIMIT])
async def test_a_slow_drip_ends_with_the_time(make: Make, api: Origin, length: int | None) -> None:
    api.answers = [streamed(b"x", 0.02, length=length)]
    error = await failure(make(timeout_seconds=0.3), media(api))
    assert (type(error), error.code) == (Temporary, "timeout")


async def test_so_does_silence(make: Make, api: Origin, cdn: Origin) -> None:
    api.answers = [redirect(f"{cdn.base_url}/a")]
    cdn.answers = [streamed(b"", 0.02)]
    error = await failure(make(timeout_seconds=0.2), media(api))
    assert (type(error), error.code) == (Temporary, "timeout")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP"])
async def test_nothing_is_decompressed(make: Make, api: Origin, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * (LIMIT * 20))
    assert len(bomb) < LIMIT
    api.answers = [plain(body=bomb, headers=JPEG | {"Content-Encoding": encoding})]
    error = await failure(make(), media(api))
    assert (type(error), error.code) == (Permanent, "encoding")
    assert [headers["Accept-Encoding"] for _, headers in api.calls] == ["identity"]


# --- which types ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("announced", "answered"),
    [
        ("image/jpeg", "text/html"),
        ("image/jpeg", "image/svg+xml"),
        ("image/jpeg", "application/octet-stream"),
        ("", "application/x-msdownload"),
        ("image/jpeg", "image/jpeg, text/html"),
        ("image/jpeg", ""),
        ("image/jpeg", "application/pdf"),
        ("audio/ogg", "video/mp4"),
    ],
)
async def test_an_answer_of_another_type(
    make: Make, api: Origin, announced: str, answered: str
) -> None:
    api.answers = [streamed(b"x", 0.01)]

    async def typed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": answered})
        await response.prepare(request)
        # Without the rule the file would be waited for.
        await asyncio.sleep(60)
        return response

    api.answers = [typed]
    error = await failure(make(), media(api, announced))
    assert (type(error), error.code) == (Permanent, "type")


async def test_what_is_announced_as_unwanted_is_not_asked_for(make: Make, api: Origin) -> None:
    error = await failure(make(), media(api, "application/zip"))
    assert (type(error), error.code, api.calls) == (Permanent, "type", [])


async def test_the_types_are_settings(make: Make, api: Origin) -> None:
    api.answers = [plain(headers={"Content-Type": "Application/ZIP; x=y"})]
    library = make(content_types={"application/zip": "zip"})
    file = await library.fetch(media(api, "APPLICATION/zip"), ACCOUNT)
    assert (file.content_type, file.name) == ("application/zip", f"{MEDIA_SID}.zip")
    assert (await failure(library, media(api, "image/jpeg"))).code == "type"


async def test_the_answers_type_counts(make: Make, api: Origin) -> None:
    api.answers = [plain(headers={"Content-Type": "image/png"})]
    file = await make().fetch(media(api, "image/jpeg"), ACCOUNT)
    assert (file.content_type, file.name) == ("image/png", f"{MEDIA_SID}.png")


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, Temporary),
        (206, Temporary),
        (304, Permanent),
        (400, Permanent),
        (408, Temporary),
        (410, Permanent),
        (418, Permanent),
        (429, Busy),
        (500, Temporary),
        (503, Temporary),
    ],
)
@pytest.mark.parametrize("by", ["api", "cdn"])
async def test_what_a_status_means(
    make: Make, api: Origin, cdn: Origin, by: str, status: int, kind: type[DependencyError]
) -> None:
    api.answers = [redirect(f"{cdn.base_url}/a") if by == "cdn" else plain(status)]
    cdn.answers = [plain(status)]
    assert type(await failure(make(), media(api))) is kind


@pytest.mark.parametrize("status", [401, 403])
async def test_a_media_host_cannot_refuse_our_credentials(
    make: Make, api: Origin, cdn: Origin, status: int
) -> None:
    """It gets none, and one link that has expired must not stop everybody."""
    api.answers, cdn.answers = [redirect(f"{cdn.base_url}/a")], [plain(status)]
    assert type(await failure(make(), media(api))) is Temporary


async def test_throttling_tells_how_long(make: Make, api: Origin) -> None:
    api.answers = [plain(429, headers={"Retry-After": "7"})]
    error = await failure(make(), media(api))
    assert isinstance(error, Busy)
    assert error.delay == 7


async def test_a_file_may_appear_some_seconds_after_its_message(
    make: Make, api: Origin, cdn: Origin, naps: Naps
) -> None:
    api.answers = [plain(404), redirect(f"{cdn.base_url}/a")]
    cdn.answers = [plain(404), plain()]
    assert (await make().fetch(media(api), ACCOUNT)).data == b"JFIF"
    assert naps.taken == [1, 3]


async def test_a_file_that_does_not_appear_is_gone(make: Make, api: Origin, naps: Naps) -> None:
    api.answers = [plain(404)]
    error = await failure(make(), media(api))
    assert (type(error), error.code) == (Permanent, "gone")
    assert (naps.taken, len(api.calls)) == ([1, 3], 3)


async def test_it_is_not_waited_for_longer_than_there_is_time(
    make: Make, api: Origin, naps: Naps
) -> None:
    api.answers = [plain(404)]
    error = await failure(make(timeout_seconds=0.9), media(api))
    assert (error.code, naps.taken) == ("gone", [])


async def test_what_never_arrived_is_tried_once_more(make: Make, api: Origin, naps: Naps) -> None:
    wanted = media(api)
    await api.stop()
    error = await failure(make(), wanted)
    assert (type(error), error.code, naps.taken) == (Temporary, "unreachable", [0.2])


@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_nothing_else_is_tried_again(
    make: Make, api: Origin, naps: Naps, status: int
) -> None:
    api.answers = [plain(status)]
    await failure(make(), media(api))
    assert (naps.taken, len(api.calls)) == ([], 1)
