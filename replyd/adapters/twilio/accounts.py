"""The accounts and their auth tokens: those that were set, and those that a secret holds.

Looking a token up again is cheap, and what it may cost is limited by account: strangers can make
us do it, by signing with anything at all.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence

from replyd.adapters.twilio import failures
from replyd.errors import DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Secrets

REFRESH_SECONDS = 300.0
# The least time between two look-ups for the same reason. One that failed while no token is known
# at all is made again sooner: until then genuine webhooks are lost.
INTERVAL_SECONDS = 60.0
INTERVAL_WITHOUT_TOKEN_SECONDS = 5.0
# A look-up with all its retries.
LOOKUP_SECONDS = 10.0
# How long a webhook or a refused request waits for one; it goes on without them.
WAIT_SECONDS = 2.0

_NEVER = float("-inf")


class Accounts:
    """Which accounts are ours, and with which tokens. `close` ends look-ups under way."""

    def __init__(
        self,
        tokens: Mapping[str, Sequence[str]],
        *,
        secrets: Secrets | None = None,
        secret_names: Mapping[str, str] | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        """`tokens`: by AccountSid, the newest first, two during a rotation. `secret_names`: by
        AccountSid, for other accounts: their secret is a token, or the JSON object
        {"auth_token": …, "previous": …}. `refresh_seconds`: a token that is older is looked up
        again when it is used, and used meanwhile."""
        # With an empty token anybody could sign.
        self._set = {sid: tuple(filter(None, given)) for sid, given in tokens.items()}
        self._kept = (
            {
                sid: _KeptTokens(secrets, name, refresh_seconds)
                for sid, name in (secret_names or {}).items()
            }
            if secrets is not None
            else {}
        )

    def knows(self, account_sid: str) -> bool:
        return account_sid in self._set or account_sid in self._kept

    def tokens(self, account_sid: str) -> tuple[str, ...]:
        """Those that are known now, the newest first: perhaps none yet."""
        kept = self._kept.get(account_sid)
        return kept.known() if kept else self._set.get(account_sid, ())

    async def usable(self, account_sid: str) -> tuple[str, ...]:
        """The same, after a first look-up where there was none.

        Raises DependencyDown when there is none to be had, Permanent for an account that is not
        ours."""
        kept = self._kept.get(account_sid)
        tokens = await kept.usable() if kept else self._set.get(account_sid, ())
        if not tokens:
            raise Permanent(
                failures.NAME,
                "no auth token is configured for the account of this conversation",
                code="unknown_account",
            )
        return tokens

    async def unrefused(self, account_sid: str, refused: Sequence[str]) -> tuple[str, ...]:
        """Other tokens than those that Twilio has refused, looked up at most once a minute."""
        kept = self._kept.get(account_sid)
        return await kept.unrefused(refused) if kept else ()

    async def refresh(self, account_sid: str) -> bool:
        """Look the account's tokens up, after a signature that does not fit; at most once a minute,
        however many ask, and for at most 2 s. Whether they are others now.

        Raises DependencyDown when none are known: then nobody can tell what fits."""
        kept = self._kept.get(account_sid)
        return await kept.changed() if kept else False

    async def probe(self) -> None:
        """Raises DependencyDown while no account's token is known: then no webhook can be judged,
        and nothing be sent. One that was known stays good."""
        known = [kept.is_known for kept in self._kept.values()]
        if not known or any(known) or any(self._set.values()):
            return
        looked = [kept.usable() for kept in self._kept.values()]
        answers = await asyncio.gather(*looked, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(failures) == len(answers):
            raise failures[0]

    async def close(self) -> None:
        for kept in self._kept.values():
            await kept.close()


class _KeptTokens:
    """The tokens of one account as its secret had them last."""

    def __init__(self, secrets: Secrets, name: str, refresh_seconds: float) -> None:
        self._secrets = secrets
        self._name = name
        self._refresh_seconds = refresh_seconds
        self._tokens: tuple[str, ...] = ()
        self._failure: DependencyError | None = None
        self._looked_at = _NEVER
        # Apart: forged signatures must not put off what Twilio's own refusal calls for.
        self._renewed_at: dict[str, float] = {}
        self._lookup: asyncio.Task[None] | None = None

    @property
    def is_known(self) -> bool:
        return bool(self._tokens)

    def known(self) -> tuple[str, ...]:
        if self._tokens and _now() - self._looked_at >= self._refresh_seconds:
            self._look_up()
        return self._tokens

    async def usable(self) -> tuple[str, ...]:
        if not self._tokens:
            await self._renew("use", None)
        return self.known() or self._fail()

    async def unrefused(self, refused: Sequence[str]) -> tuple[str, ...]:
        # Another request may have brought new ones already.
        if set(self._tokens) <= set(refused):
            await self._renew("refusal", WAIT_SECONDS)
        return tuple(token for token in self._tokens if token not in refused)

    async def changed(self) -> bool:
        before = self._tokens
        await self._renew("signature", WAIT_SECONDS)
        return (self._tokens or self._fail()) != before

    async def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.wait([self._lookup])

    async def _renew(self, reason: str, seconds: float | None) -> None:
        """Wait for a look-up, a new one if there was none for this reason lately. None: until its
        end."""
        if self._lookup is None:
            interval = INTERVAL_SECONDS if self._tokens else INTERVAL_WITHOUT_TOKEN_SECONDS
            if _now() - self._renewed_at.get(reason, _NEVER) < interval:
                return
            self._renewed_at[reason] = _now()
        # Whoever waits may give up; the look-up goes on for the others.
        await asyncio.wait([self._look_up()], timeout=seconds)

    def _look_up(self) -> "asyncio.Task[None]":
        if self._lookup is None:
            self._looked_at = _now()
            self._lookup = asyncio.get_running_loop().create_task(self._read())
            self._lookup.add_done_callback(self._done)
        return self._lookup

    def _done(self, _lookup: "asyncio.Task[None]") -> None:
        self._lookup = None

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                self._tokens = _tokens_in(await self._secrets.get(self._name))
        except TimeoutError:
            self._failure = Temporary(failures.NAME, "no answer in time", code="timeout")
        except DependencyError as failure:
            # What was known stays in use: Twilio is the one to say that it is no longer valid.
            self._failure = failure

    def _fail(self) -> tuple[str, ...]:
        failure = self._failure or Temporary(failures.NAME, "no answer yet", code="timeout")
        # As a token that Twilio refuses: no fault of the message's, and nobody's fares better.
        raise DependencyDown(
            failures.NAME,
            f"the secret with the account's auth token: {failure.reason}",
            code=failure.code,
        )


def _tokens_in(text: str) -> tuple[str, ...]:
    """Raises Permanent for a secret of another shape."""
    text = text.strip()
    found: list[object] = [text]
    if text.startswith("{"):
        fields = _object(text)
        found = [fields.get("auth_token"), fields.get("previous") or ""]
    tokens = [token.strip() for token in found if isinstance(token, str)]
    fits = len(tokens) == len(found) and all(t.isascii() and t.isprintable() for t in tokens)
    if not fits or not tokens[0] or any(" " in token for token in tokens):
        raise Permanent(
            failures.NAME,
            'must be a token, or {"auth_token": "…", "previous": "…"} in JSON',
            code="secret",
        )
    return tuple(dict.fromkeys(filter(None, tokens)))


def _object(text: str) -> Mapping[str, object]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _now() -> float:
    return asyncio.get_running_loop().time()
