"""The Twilio double's media, fetched as Twilio's customers do, and its webhook for them."""

import base64
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from replyd.demo.loopback import LoopbackServer
from replyd.demo.twilio_double import TwilioDouble

PHOTO = b"JFIF" + bytes(range(256))


class Receiver(LoopbackServer):
    """Takes webhooks."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/{path:.*}", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response()


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(callback_delays=(0, 0)) as double:
        yield double


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def credentials(twilio: TwilioDouble, token: str = "") -> dict[str, str]:
    pair = f"{twilio.account_sid}:{token or twilio.auth_token}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


async def link(twilio: TwilioDouble, session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url, headers=credentials(twilio), allow_redirects=False) as response:
        assert response.status == 307
        return response.headers["Location"]


async def test_the_api_redirects_to_another_origin(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    location = await link(twilio, session, twilio.add_media("image/jpeg", PHOTO))
    assert location.startswith(twilio.media.cdn.base_url + "/")
    assert urlsplit(location).netloc != urlsplit(twilio.base_url).netloc
    async with session.get(location) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/jpeg"
        assert await response.read() == PHOTO
    assert (twilio.media.cdn.served, twilio.media.cdn.authorizations) == (1, [])


async def test_without_credentials_there_is_no_link(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    url = twilio.add_media("image/jpeg", PHOTO)
    for headers in ({}, credentials(twilio, "wrong")):
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            assert response.status == 401
            assert "Location" not in response.headers
            assert response.headers["WWW-Authenticate"].startswith("Basic")


async def test_credentials_that_go_astray_are_recorded(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    location = await link(twilio, session, twilio.add_media("image/jpeg", PHOTO))
    async with session.get(location, headers=credentials(twilio)) as response:
        assert response.status == 200
    assert twilio.media.cdn.authorizations == [credentials(twilio)["Authorization"]]


async def test_a_link_without_its_signature_is_refused(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    location = await link(twilio, session, twilio.add_media("image/jpeg", PHOTO))
    for url in (location.partition("?")[0], f"{twilio.media.cdn.base_url}/AC1/unknown?Signature=x"):
        async with session.get(url) as response:
            assert response.status == 403
    assert twilio.media.cdn.served == 0


async def test_a_file_belongs_to_its_message(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    url = twilio.add_media("image/jpeg", PHOTO, message_sid="MM" + "1" * 32)
    other = url.replace("MM" + "1" * 32, "MM" + "2" * 32)
    assert other != url
    async with session.get(other, headers=credentials(twilio)) as response:
        assert response.status == 404
        assert (await response.json())["code"] == 20404


async def test_faults_of_both_origins(twilio: TwilioDouble, session: aiohttp.ClientSession) -> None:
    url = twilio.add_media("image/jpeg", PHOTO)
    twilio.media.fail_next(status=429, code=20429, headers={"Retry-After": "2"})
    twilio.media.cdn.fail_next(status=503)
    statuses = []
    for _ in range(3):
        async with session.get(url, headers=credentials(twilio)) as response:
            statuses.append(response.status)
    assert statuses == [429, 503, 200]
    twilio.media.cdn.drop_next()
    twilio.media.fail_next(status=500)
    twilio.clear_faults()
    async with session.get(url, headers=credentials(twilio)) as response:
        assert response.status == 200


@pytest.mark.parametrize("origin", ["api", "cdn"])
async def test_lost_connections(
    twilio: TwilioDouble, session: aiohttp.ClientSession, origin: str
) -> None:
    location = await link(twilio, session, twilio.add_media("image/jpeg", PHOTO))
    twilio.media.cdn.drop_next(2)
    twilio.media.fail_next(2, status=0)
    url = location if origin == "cdn" else twilio.add_media("image/jpeg", PHOTO)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.get(url, headers=credentials(twilio) if origin == "api" else None)


async def test_the_webhook_of_a_message_with_files(session: aiohttp.ClientSession) -> None:
    async with (
        Receiver() as receiver,
        TwilioDouble(webhook_url="https://hooks.example.com/in") as twilio,
    ):
        twilio.deliver_to = receiver.base_url
        sid = "MM" + "1" * 32
        files = [
            (twilio.add_media(kind, PHOTO, message_sid=sid), kind)
            for kind in ("image/jpeg", "audio/ogg")
        ]
        assert (await twilio.receive(body="", sid=sid, media=files)).ok
        (form,) = receiver.forms
        assert (form["NumMedia"], form["MessageSid"]) == ("2", sid)
        for number, (url, kind) in enumerate(files):
            assert (form[f"MediaUrl{number}"], form[f"MediaContentType{number}"]) == (url, kind)
            async with session.get(url, headers=credentials(twilio)) as response:
                assert await response.read() == PHOTO
