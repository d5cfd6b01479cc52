"""Tokens in secrets: when they are looked up, and that they are replaced without a restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import urlencode

import aiohttp
import pytest
from moto.server import ThreadedMotoServer

from replyd.adapters.memory.secrets import MemorySecrets
from replyd.adapters.twilio import TwilioChannel
from replyd.adapters.twilio.accounts import (
    INTERVAL_SECONDS,
    INTERVAL_WITHOUT_TOKEN_SECONDS,
    WAIT_SECONDS,
    Accounts,
)
from replyd.adapters.twilio.media import TwilioMedia
from replyd.bootstrap.connections import twilio_accounts, twilio_channel
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import Media, OutboundPart
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.runtime.webhook_server import INBOUND_PATH
from replyd.settings import Settings
from tests.contract.conftest import client
from tests.http import wire
from tests.http.wire import MESSAGE, Fields, changed, post, serving, signature
from tests.support.virtual_time import VirtualTimeLoop

ACCOUNT, SET_ACCOUNT = "AC" + "1" * 32, "AC" + "2" * 32
STRANGER = "AC" + "3" * 32
NAME = f"replyd/twilio/{ACCOUNT}"
OLD, NEW = "0ld-token", "n3w-token"

Test = Callable[[Accounts, MemorySecrets], Awaitable[None]]


def run(
    test: Test,
    *,
    text: str = OLD,
    failures: list[DependencyError] | None = None,
    seconds: float = 0,
) -> None:
    """In virtual time."""

    async def main() -> None:
        texts = {NAME: text} if text else {}
        secrets = MemorySecrets(texts, seconds=seconds, failures=failures or [])
        accounts = Accounts(
            {SET_ACCOUNT: ["set", ""]}, secrets=secrets, secret_names={ACCOUNT: NAME}
        )
        try:
            await test(accounts, secrets)
        finally:
            await accounts.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


# --- what a secret may be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (OLD, (OLD,)),
        (f"  {OLD}\n", (OLD,)),
        (f'{{"auth_token": "{NEW}"}}', (NEW,)),
        (f'{{"auth_token": "{NEW}", "previous": "{OLD}"}}', (NEW, OLD)),
        (f'{{"auth_token": "{NEW}", "previous": "", "note": 1}}', (NEW,)),
        (f'{{"auth_token": "{NEW}", "previous": null}}', (NEW,)),
        (f'{{"auth_token": "{NEW}", "previous": "{NEW}"}}', (NEW,)),
    ],
)
def test_a_secret_is_a_token_or_two(text: str, tokens: tuple[str, ...]) -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        assert await accounts.usable(ACCOUNT) == tokens
        assert accounts.tokens(ACCOUNT) == tokens
        assert secrets.asked == [NAME]

    run(test, text=text)


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "two words",
        "no-äscii",
        f"a\n{OLD}",
        "{",
        "{}",
        f'{{"token": "{OLD}"}}',
        '{"auth_token": ""}',
        f'{{"auth_token": ["{OLD}"]}}',
        f'{{"auth_token": "{OLD}", "previous": 7}}',
        '{"auth_token":' * 100_000,
    ],
)
def test_a_secret_of_another_shape_is_no_token_and_is_not_shown(text: str) -> None:
    async def test(accounts: Accounts, _secrets: MemorySecrets) -> None:
        with pytest.raises(DependencyDown, match="auth_token") as caught:
            await accounts.usable(ACCOUNT)
        assert OLD not in f"{caught.value} {caught.value!r}"
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert accounts.tokens(ACCOUNT) == ()

    run(test, text=text)


# --- when it is looked up ------------------------------------------------------------------------


def test_strangers_and_accounts_with_tokens_cost_no_look_up() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        assert accounts.knows(ACCOUNT)
        assert accounts.knows(SET_ACCOUNT)
        assert accounts.tokens(SET_ACCOUNT) == await accounts.usable(SET_ACCOUNT) == ("set",)
        for name in (STRANGER, SET_ACCOUNT, "", "../other", "{account_sid}"):
            assert accounts.knows(name) == (name == SET_ACCOUNT)
            assert not await accounts.refresh(name)
            assert await accounts.unrefused(name, ["set"]) == ()
        with pytest.raises(Permanent) as caught:
            await accounts.usable(STRANGER)
        assert caught.value.code == "unknown_account"
        assert secrets.asked == []

    run(test)


def test_a_token_is_kept() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        assert accounts.tokens(ACCOUNT) == ()
        await asyncio.gather(*(accounts.usable(ACCOUNT) for _ in range(20)))
        for _ in range(20):
            assert await accounts.usable(ACCOUNT) == (OLD,)
        assert secrets.asked == [NAME]

    run(test, seconds=1)


def test_an_old_token_is_looked_up_again_while_it_serves() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        await accounts.usable(ACCOUNT)
        secrets.texts[NAME] = NEW
        await asyncio.sleep(298)
        assert accounts.tokens(ACCOUNT) == (OLD,)
        await asyncio.sleep(5)
        assert len(secrets.asked) == 1
        for _ in range(5):
            assert accounts.tokens(ACCOUNT) == (OLD,)
        await asyncio.sleep(2)
        assert accounts.tokens(ACCOUNT) == (NEW,)
        assert len(secrets.asked) == 2

    run(test, seconds=1)


def test_a_flood_of_forged_requests_costs_one_look_up_a_minute() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        await accounts.usable(ACCOUNT)
        secrets.asked.clear()
        for _ in range(180):
            for refreshed in await asyncio.gather(*(accounts.refresh(ACCOUNT) for _ in range(10))):
                assert not refreshed
            await asyncio.sleep(1)
        assert len(secrets.asked) == 3

    run(test, seconds=0.1)


def test_all_who_wait_for_a_look_up_learn_of_a_new_token() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        await accounts.usable(ACCOUNT)
        secrets.texts[NAME] = NEW
        assert await asyncio.gather(*(accounts.refresh(ACCOUNT) for _ in range(10))) == [True] * 10
        assert accounts.tokens(ACCOUNT) == (NEW,)
        assert len(secrets.asked) == 2

    run(test, seconds=1)


def test_forged_requests_do_not_put_off_what_a_refusal_calls_for() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        await accounts.usable(ACCOUNT)
        assert not await accounts.refresh(ACCOUNT)
        secrets.texts[NAME] = NEW
        assert not await accounts.refresh(ACCOUNT)
        assert await accounts.unrefused(ACCOUNT, [OLD]) == (NEW,)

    run(test)


def test_refusals_cost_one_look_up_a_minute() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        await accounts.usable(ACCOUNT)
        secrets.asked.clear()
        for _ in range(120):
            assert await accounts.unrefused(ACCOUNT, [OLD]) == ()
            await asyncio.sleep(1)
        assert len(secrets.asked) == 2
        await asyncio.sleep(INTERVAL_SECONDS)
        secrets.texts[NAME] = f'{{"auth_token": "{NEW}", "previous": "{OLD}"}}'
        assert await accounts.unrefused(ACCOUNT, [OLD]) == (NEW,)
        # Who was refused with the old one meanwhile need not look.
        await asyncio.sleep(INTERVAL_SECONDS)
        assert await accounts.unrefused(ACCOUNT, [OLD]) == (NEW,)
        assert len(secrets.asked) == 3

    run(test)


# --- when it cannot be had -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        Temporary("secretsmanager", "broke", code="x"),
        Busy("secretsmanager", "throttles us", code="x"),
        DependencyDown("secretsmanager", "cannot be reached", code="x"),
        Permanent("secretsmanager", "does not exist", code="x"),
    ],
)
def test_without_any_token_nothing_can_be_judged_and_it_is_tried_again_soon(
    failure: DependencyError,
) -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        for ask in (accounts.usable, accounts.refresh, accounts.usable, accounts.refresh):
            with pytest.raises(DependencyError) as caught:
                await ask(ACCOUNT)
            # Nobody's message fares better: no attempt is used up.
            assert type(caught.value) is DependencyDown
            assert (caught.value.dependency, caught.value.code) == ("twilio", "x")
        assert len(secrets.asked) == 2
        await asyncio.sleep(INTERVAL_WITHOUT_TOKEN_SECONDS)
        assert await accounts.refresh(ACCOUNT)
        assert accounts.tokens(ACCOUNT) == (OLD,)

    run(test, failures=[failure, failure])


def test_ready_once_any_token_is_known() -> None:
    other = "AC" + "4" * 32

    async def main() -> None:
        secrets = MemorySecrets({"b": OLD}, failures=[Temporary("secretsmanager", "broke")] * 4)
        accounts = Accounts({}, secrets=secrets, secret_names={ACCOUNT: "a", other: "b"})
        for _ in range(3):
            with pytest.raises(DependencyDown, match="broke"):
                await accounts.probe()
        # However often somebody asks.
        assert sorted(secrets.asked) == ["a", "b"]
        await asyncio.sleep(INTERVAL_WITHOUT_TOKEN_SECONDS)
        with pytest.raises(DependencyDown):
            await accounts.probe()
        await asyncio.sleep(INTERVAL_WITHOUT_TOKEN_SECONDS)
        # The other account's secret is for its owner to mend.
        await accounts.probe()
        asked = len(secrets.asked)
        # What is known stays good, whatever becomes of the service.
        secrets.failures += [Temporary("secretsmanager", "broke")] * 10
        await asyncio.sleep(3600)
        await accounts.probe()
        assert len(secrets.asked) == asked
        await Accounts({SET_ACCOUNT: ["set"]}).probe()
        await Accounts({SET_ACCOUNT: ["set"]}, secrets=secrets, secret_names={ACCOUNT: "a"}).probe()
        assert len(secrets.asked) == asked

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_what_was_known_stays_in_use() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        await accounts.usable(ACCOUNT)
        secrets.failures += [Permanent("secretsmanager", "does not exist")] * 3
        assert not await accounts.refresh(ACCOUNT)
        assert await accounts.unrefused(ACCOUNT, [OLD]) == ()
        await asyncio.sleep(301)
        assert await accounts.usable(ACCOUNT) == (OLD,)
        await asyncio.sleep(1)
        assert await accounts.usable(ACCOUNT) == (OLD,)
        assert len(secrets.asked) == 4

    run(test)


def test_a_webhook_does_not_wait_for_ever() -> None:
    async def test(accounts: Accounts, _secrets: MemorySecrets) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(Temporary):
            await accounts.refresh(ACCOUNT)
        assert loop.time() == pytest.approx(WAIT_SECONDS)
        # The look-up went on.
        await asyncio.sleep(3)
        assert accounts.tokens(ACCOUNT) == (OLD,)

    run(test, seconds=4)


def test_a_look_up_that_hangs_is_given_up() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        with pytest.raises(Temporary) as caught:
            await accounts.usable(ACCOUNT)
        assert caught.value.code == "timeout"
        secrets.seconds = 0
        assert await accounts.usable(ACCOUNT) == (OLD,)

    run(test, seconds=10_000)


def test_who_gives_up_waiting_does_not_end_the_look_up() -> None:
    async def test(accounts: Accounts, _secrets: MemorySecrets) -> None:
        first = asyncio.create_task(accounts.usable(ACCOUNT))
        second = asyncio.create_task(accounts.usable(ACCOUNT))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await second == (OLD,)

    run(test, seconds=1)


def test_closing_ends_a_look_up() -> None:
    async def test(accounts: Accounts, secrets: MemorySecrets) -> None:
        with pytest.raises(Temporary):
            await accounts.refresh(ACCOUNT)
        await accounts.close()
        await asyncio.sleep(20)
        assert accounts.tokens(ACCOUNT) == ()
        assert secrets.asked == [NAME]

    run(test, seconds=5)


# --- at Twilio -----------------------------------------------------------------------------------


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(account_sid=ACCOUNT, auth_token=OLD, callback_delays=(0, 0)) as double:
        yield double


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


def part(double: TwilioDouble, text: str = "hello") -> OutboundPart:
    return OutboundPart(
        account_sid=ACCOUNT,
        sender=f"whatsapp:{double.business}",
        recipient="whatsapp:+447700900001",
        text=text,
    )


async def test_a_message_is_sent_once_when_the_token_was_replaced(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    secrets = MemorySecrets({NAME: OLD})
    accounts = Accounts({}, secrets=secrets, secret_names={ACCOUNT: NAME})
    channel = TwilioChannel(session, accounts=accounts, base_url=twilio.base_url)
    await channel.send(part(twilio, "first"))
    twilio.auth_token = secrets.texts[NAME] = NEW
    await asyncio.gather(*(channel.send(part(twilio, f"{n}")) for n in range(5)))
    await channel.check_account(ACCOUNT)
    sent = await channel.sent_since(
        ACCOUNT, f"whatsapp:{twilio.business}", "whatsapp:+447700900001", 0
    )
    assert sorted(message.text for message in sent) == ["0", "1", "2", "3", "4", "first"]
    assert secrets.asked == [NAME, NAME]


async def test_a_token_that_is_not_replaced_anywhere_is_refused(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    secrets = MemorySecrets({NAME: OLD})
    accounts = Accounts({}, secrets=secrets, secret_names={ACCOUNT: NAME})
    channel = TwilioChannel(session, accounts=accounts, base_url=twilio.base_url)
    twilio.auth_token = NEW
    for _ in range(3):
        with pytest.raises(DependencyDown) as caught:
            await channel.send(part(twilio))
        assert OLD not in str(caught.value)
    assert secrets.asked == [NAME, NAME]


async def test_a_send_without_a_token_was_certainly_not_made(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    secrets = MemorySecrets(seconds=60)
    accounts = Accounts({}, secrets=secrets, secret_names={ACCOUNT: NAME})
    channel = TwilioChannel(
        session, accounts=accounts, base_url=twilio.base_url, timeout_seconds=0.05
    )
    with pytest.raises(DependencyDown) as caught:
        await channel.send(part(twilio))
    assert caught.value.code == "timeout"
    await accounts.close()


async def test_a_file_is_fetched_when_the_token_was_replaced(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    secrets = MemorySecrets({NAME: OLD})
    accounts = Accounts({}, secrets=secrets, secret_names={ACCOUNT: NAME})
    library = TwilioMedia(
        session,
        accounts=accounts,
        base_url=twilio.base_url,
        media_hosts=[twilio.media.cdn.base_url],
    )
    media = Media(twilio.add_media("image/jpeg", b"JFIF"), "image/jpeg")
    assert (await library.fetch(media, ACCOUNT)).data == b"JFIF"
    twilio.auth_token = secrets.texts[NAME] = NEW
    assert (await library.fetch(media, ACCOUNT)).data == b"JFIF"
    assert secrets.asked == [NAME, NAME]
    assert twilio.media.cdn.authorizations == []


def signed_by(fields: Fields, token: str) -> bytes:
    return post(urlencode(fields).encode(), signed=signature(fields, token=token))


# --- webhooks ------------------------------------------------------------------------------------


async def test_a_webhook_of_the_new_token_is_accepted_and_a_forged_one_is_not(
    session: aiohttp.ClientSession,
) -> None:
    secrets = MemorySecrets({NAME: OLD})
    accounts = Accounts({}, secrets=secrets, secret_names={wire.ACCOUNT: NAME})
    channel = TwilioChannel(session, accounts=accounts, public_url=wire.ORIGIN)
    async with serving(channel=channel, refresh=accounts.refresh) as site:
        await accounts.usable(wire.ACCOUNT)
        assert (await site.ask(signed_by(MESSAGE, OLD))).status == 200
        secrets.texts[NAME] = NEW
        # The first one that does not fit: forged ones share its look-up.
        answers = await asyncio.gather(
            *(site.ask(signed_by(MESSAGE, t)) for t in (NEW, "forged", NEW))
        )
        assert [answer.status for answer in answers] == [200, 403, 200]
        assert (await site.ask(signed_by(MESSAGE, OLD))).status == 403
        asked = len(secrets.asked)
        for _ in range(20):
            assert (await site.ask(signed_by(MESSAGE, "forged"))).status == 403
        assert len(secrets.asked) == asked


async def test_the_first_webhook_of_an_account(session: aiohttp.ClientSession) -> None:
    secrets = MemorySecrets({NAME: OLD})
    accounts = Accounts({}, secrets=secrets, secret_names={wire.ACCOUNT: NAME})
    channel = TwilioChannel(session, accounts=accounts, public_url=wire.ORIGIN)
    async with serving(channel=channel, refresh=accounts.refresh) as site:
        assert (await site.ask(signed_by(MESSAGE, OLD))).status == 200
        assert (await site.ask(signed_by(MESSAGE, OLD))).status == 200
    assert secrets.asked == [NAME]


async def test_a_strangers_webhook_is_refused_without_a_look_up(
    session: aiohttp.ClientSession,
) -> None:
    secrets = MemorySecrets({NAME: OLD})
    accounts = Accounts({}, secrets=secrets, secret_names={ACCOUNT: NAME})
    channel = TwilioChannel(session, accounts=accounts, public_url=wire.ORIGIN)
    async with serving(channel=channel, refresh=accounts.refresh) as site:
        stranger = changed(MESSAGE, AccountSid=STRANGER)
        assert (await site.ask(signed_by(stranger, OLD))).status == 403
        assert site.refusals == [(INBOUND_PATH, 403, "unknown_account")]
    assert secrets.asked == []


async def test_a_webhook_that_nobody_can_judge_is_not_refused_for_ever(
    session: aiohttp.ClientSession,
) -> None:
    secrets = MemorySecrets({NAME: OLD}, failures=[DependencyDown("secretsmanager", "down")])
    accounts = Accounts({}, secrets=secrets, secret_names={wire.ACCOUNT: NAME})
    channel = TwilioChannel(session, accounts=accounts, public_url=wire.ORIGIN)
    async with serving(channel=channel, refresh=accounts.refresh) as site:
        answer = await site.ask(signed_by(MESSAGE, OLD))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert site.accept.messages == []


# --- with AWS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_a_token_is_replaced_at_twilio_and_in_aws_without_a_restart(
    twilio: TwilioDouble,
    moto: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto)
    settings = Settings.model_validate(
        {
            "server": {"public_url": wire.ORIGIN},
            "aws": {"region": "us-east-1"},
            "twilio": {
                "base_url": twilio.base_url,
                "secret_name": "replyd/twilio/{account_sid}",
                "account_sids": [ACCOUNT],
            },
        }
    )
    message = changed(MESSAGE, AccountSid=ACCOUNT)

    async def asked(site: wire.Site, token: str) -> int:
        return int((await site.ask(signed_by(message, token))).status)

    async with client("secretsmanager", moto) as aws:
        await aws.create_secret(Name=NAME, SecretString=OLD)
        async with (
            twilio_accounts(settings) as accounts,
            twilio_channel(settings, accounts) as channel,
            serving(channel=channel, refresh=accounts.refresh) as site,
        ):
            await channel.send(part(twilio))
            assert await asked(site, OLD) == 200
            await aws.put_secret_value(
                SecretId=NAME, SecretString=f'{{"auth_token": "{NEW}", "previous": "{OLD}"}}'
            )
            # Twilio promotes the secondary token.
            twilio.auth_token = NEW
            assert await asked(site, NEW) == 200
            assert await asked(site, OLD) == 200
            assert await asked(site, "forged") == 403
            await channel.send(part(twilio))
    shown = repr([accounts, vars(accounts), channel, vars(channel), settings])
    assert NEW not in shown
    assert OLD not in shown
