"""What is Twilio's and OpenAI's own about erasing: the real clients against the doubles."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from openai import AsyncOpenAI

from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.erasure import OpenAIThreads
from replyd.adapters.twilio import listing
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.erasure import TwilioEraser
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from replyd.errors import DependencyError
from replyd.ports import Kept
from tests.contract.test_erasure import no_time
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER

SID = "SM" + "0" * 32


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(account_sid=ACCOUNT, business=BUSINESS) as double:
        double.webhook_url = "http://127.0.0.1:9/none"
        double.retries = 0
        yield double


@pytest.fixture
async def eraser(twilio: TwilioDouble) -> AsyncIterator[TwilioEraser]:
    async with aiohttp.ClientSession() as session:
        accounts = Accounts({ACCOUNT: [twilio.auth_token]})
        yield TwilioEraser(session, accounts=accounts, base_url=twilio.base_url, sleep=no_time)


async def test_a_number_of_the_business_has_nothing_to_erase(
    twilio: TwilioDouble, eraser: TwilioEraser
) -> None:
    """Or one typing error would erase every conversation at Twilio."""
    await twilio.receive(CUSTOMER, "hi")
    twilio._accept({"From": f"whatsapp:{BUSINESS}", "To": f"whatsapp:{CUSTOMER}", "Body": "x"})
    assert (await eraser.exchanged_with(ACCOUNT, f"whatsapp:{BUSINESS}")).messages == ()
    assert len((await eraser.exchanged_with(ACCOUNT, f"whatsapp:{CUSTOMER}")).messages) == 2


async def test_what_a_list_shows_without_being_asked_is_left_alone() -> None:
    row = {
        "sid": SID,
        "from": "whatsapp:+15550002",
        "to": f"whatsapp:{BUSINESS}",
        "direction": "inbound",
        "num_media": "0",
    }

    async def everything(_target: str) -> dict[str, object]:
        return {"messages": [row], "next_page_uri": None}

    found = await listing.exchanged_with(everything, ACCOUNT, f"whatsapp:{CUSTOMER}")
    assert found.messages == ()
    assert (await listing.exchanged_with(everything, ACCOUNT, row["from"])).messages


async def test_a_list_that_goes_on_is_not_whole() -> None:
    path = listing.messages_path(ACCOUNT)

    async def endless(_target: str) -> dict[str, object]:
        return {"messages": [], "next_page_uri": f"{path}?Page=1"}

    assert not (await listing.exchanged_with(endless, ACCOUNT, CUSTOMER)).whole


async def test_files_go_with_their_message(twilio: TwilioDouble, eraser: TwilioEraser) -> None:
    url = twilio.add_media("image/png", b"x", message_sid=SID)
    await twilio.receive(CUSTOMER, sid=SID, media=[(url, "image/png")])
    assert await eraser.erase(ACCOUNT, SID) == "erased"
    assert not twilio.media._files
    assert twilio.transcript == []


async def test_somebody_elses_404_is_no_proof(eraser: TwilioEraser) -> None:
    eraser._exchange.base_url += "/elsewhere"
    with pytest.raises(DependencyError, match=r"404.*check twilio.base_url"):
        await eraser.erase(ACCOUNT, SID)


async def test_an_erasure_without_an_answer_is_asked_for_again(
    twilio: TwilioDouble, eraser: TwilioEraser
) -> None:
    await twilio.receive(CUSTOMER, sid=SID)
    twilio.fail_list_next(2)
    assert await eraser.erase(ACCOUNT, SID) == "erased"


async def test_only_a_sid_becomes_part_of_a_request(eraser: TwilioEraser) -> None:
    with pytest.raises(ValueError, match="SID"):
        await eraser.erase(ACCOUNT, "../../Accounts")


@pytest.fixture
async def openai() -> AsyncIterator[OpenAIDouble]:
    async with OpenAIDouble(api_key="sk") as double:
        yield double


@pytest.fixture
async def client(openai: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    made = create_client("sk", base_url=openai.api_url)
    yield made
    await made.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_legacy_thread_goes_with_its_files(
    openai: OpenAIDouble, client: AsyncOpenAI
) -> None:
    file = await client.files.create(file=("a.png", b"x", "image/png"), purpose="vision")
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_file", "image_file": {"file_id": file.id}},
    ]
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": content}]  # type: ignore[typeddict-item]
    )
    threads = OpenAIThreads(client)
    kept = await threads.kept(thread.id)
    assert kept == [Kept("file", file.id), Kept("thread", thread.id)]
    for what in kept:
        assert await threads.erase(what)
        assert not await threads.erase(what)
    assert not openai.assistants.threads
    assert not openai.assistants._files


async def test_a_conversation_of_many_pages(openai: OpenAIDouble, client: AsyncOpenAI) -> None:
    made = await client.conversations.create()
    for _ in range(6):
        items = [{"type": "message", "role": "user", "content": "hi"}] * 20
        await client.conversations.items.create(made.id, items=items)  # type: ignore[arg-type]
    assert len(await OpenAIThreads(client).kept(made.id)) == 121


async def test_a_server_without_threads_has_none(openai: OpenAIDouble, client: AsyncOpenAI) -> None:
    openai.assistants.gone = True
    assert await OpenAIThreads(client).kept("thread_1") == ()
