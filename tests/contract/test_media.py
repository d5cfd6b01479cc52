"""What every media library does. Real clocks and sockets here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from replyd.adapters.memory.media import MemoryMedia
from replyd.adapters.twilio.media import TwilioMedia
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import Media
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File, MediaLibrary

ACCOUNT, OTHER_ACCOUNT = "AC" + "0" * 32, "AC" + "9" * 32
MAX_BYTES = 100_000
WANTED = {"image/jpeg": "jpg", "audio/ogg": "ogg"}
PICTURE = bytes(range(256)) * 300


@dataclass
class Memory:
    """The twin, and what the vendor can be made to do."""

    port: MemoryMedia = field(
        default_factory=lambda: MemoryMedia(seconds=0, content_types=WANTED, max_bytes=MAX_BYTES)
    )

    def add(self, content_type: str, data: bytes) -> str:
        url = f"https://media.example.com/{len(self.port.files)}"
        self.port.files[ACCOUNT, url] = File("file", content_type, data)
        return url

    def forget(self, url: str) -> None:
        del self.port.files[ACCOUNT, url]

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("twilio", "refused"))


# What Twilio says for each kind of error: status and code.
REFUSALS: dict[type[DependencyError], tuple[int, int]] = {
    Temporary: (503, 20503),
    Busy: (429, 20429),
    DependencyDown: (401, 20003),
    Permanent: (400, 20001),
}


@dataclass
class Real:
    """The adapter, and the double behind it."""

    port: TwilioMedia
    double: TwilioDouble

    def add(self, content_type: str, data: bytes) -> str:
        return self.double.add_media(content_type, data)

    def forget(self, url: str) -> None:
        message_sid, _, media_sid = url.rpartition("/Messages/")[2].split("/")
        del self.double.media._files[message_sid, media_sid]

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.media.fail_next(status=status, code=code)


Vendor = Memory | Real


@pytest.fixture(params=["memory", "twilio"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield Memory()
        return
    async with TwilioDouble(account_sid=ACCOUNT) as double, aiohttp.ClientSession() as session:
        adapter = TwilioMedia(
            session,
            accounts={ACCOUNT: [double.auth_token], OTHER_ACCOUNT: ["another"]},
            base_url=double.base_url,
            media_hosts=[double.media.cdn.base_url],
            content_types=WANTED,
            max_bytes=MAX_BYTES,
            sleep=lambda _seconds: asyncio.sleep(0),
        )
        yield Real(adapter, double)


@pytest.fixture
def library(vendor: Vendor) -> MediaLibrary:
    return vendor.port


async def failure(library: MediaLibrary, media: Media, account: str = ACCOUNT) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        await library.fetch(media, account)
    assert media.url not in str(caught.value)
    return caught.value


async def test_a_file_comes_as_it_was_sent(vendor: Vendor, library: MediaLibrary) -> None:
    media = Media(vendor.add("image/jpeg", PICTURE), "image/jpeg")
    for _ in range(2):
        file = await library.fetch(media, ACCOUNT)
        assert (file.content_type, file.data) == ("image/jpeg", PICTURE)
        assert file.name


async def test_a_file_may_be_as_large_as_the_limit_and_no_larger(
    vendor: Vendor, library: MediaLibrary
) -> None:
    full = Media(vendor.add("image/jpeg", b"x" * MAX_BYTES), "image/jpeg")
    assert len((await library.fetch(full, ACCOUNT)).data) == MAX_BYTES
    more = Media(vendor.add("image/jpeg", b"x" * (MAX_BYTES + 1)), "image/jpeg")
    error = await failure(library, more)
    assert (type(error), error.code) == (Permanent, "size")


async def test_a_file_of_another_kind_is_refused(vendor: Vendor, library: MediaLibrary) -> None:
    kind = "application/x-msdownload"
    error = await failure(library, Media(vendor.add(kind, b"MZ"), kind))
    assert (type(error), error.code) == (Permanent, "type")


async def test_what_is_announced_as_nothing_is_looked_at(
    vendor: Vendor, library: MediaLibrary
) -> None:
    file = await library.fetch(Media(vendor.add("audio/ogg", b"OggS"), ""), ACCOUNT)
    assert file.content_type == "audio/ogg"


async def test_a_file_that_is_gone(vendor: Vendor, library: MediaLibrary) -> None:
    media = Media(vendor.add("image/jpeg", PICTURE), "image/jpeg")
    vendor.forget(media.url)
    error = await failure(library, media)
    assert (type(error), error.code) == (Permanent, "gone")


async def test_nobody_has_the_files_of_another_account(
    vendor: Vendor, library: MediaLibrary
) -> None:
    media = Media(vendor.add("image/jpeg", PICTURE), "image/jpeg")
    assert type(await failure(library, media, OTHER_ACCOUNT)) is Permanent


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refusal_has_its_kind_and_hinders_nothing(
    vendor: Vendor, library: MediaLibrary, kind: type[DependencyError]
) -> None:
    media = Media(vendor.add("image/jpeg", PICTURE), "image/jpeg")
    vendor.refuse(kind)
    error = await failure(library, media)
    assert type(error) is kind
    assert not isinstance(error, Ambiguous)
    assert (await library.fetch(media, ACCOUNT)).data == PICTURE


async def test_a_fetch_may_be_given_up(vendor: Vendor, library: MediaLibrary) -> None:
    media = Media(vendor.add("image/jpeg", PICTURE), "image/jpeg")
    asked = asyncio.create_task(library.fetch(media, ACCOUNT))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await library.fetch(media, ACCOUNT)).data == PICTURE


async def test_many_at_once_keep_their_contents(vendor: Vendor, library: MediaLibrary) -> None:
    contents = [f"file {number}".encode() for number in range(12)]
    media = [Media(vendor.add("image/jpeg", data), "image/jpeg") for data in contents]
    files = await asyncio.gather(*(library.fetch(one, ACCOUNT) for one in media))
    assert [file.data for file in files] == contents
