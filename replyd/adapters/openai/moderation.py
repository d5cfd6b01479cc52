"""The moderator on OpenAI's moderations API,
https://platform.openai.com/docs/api-reference/moderations."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from openai import AsyncOpenAI, BaseModel, OpenAIError
from openai.types import ModerationCreateResponse

from replyd.adapters.openai.failures import NAME, once_more, translated
from replyd.errors import Temporary


class OpenAIModerator:
    """One model, on a client that the caller owns."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str = "omni-moderation-latest",
        timeout_seconds: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`timeout_seconds` is for a whole `flagged`."""
        self._client = client
        self._model = model
        self._timeout = timeout_seconds
        self._sleep = sleep

    async def flagged(self, text: str) -> Sequence[str]:
        """The names of the categories that the text falls into, such as `self-harm/intent`,
        sorted; none for a harmless text.

        Raises Busy when throttled, Temporary for a timeout, a lost connection, a server error or
        an answer that is none, DependencyDown when unreachable or when key, budget or model need
        a change, Permanent for what the API refuses."""
        try:
            async with asyncio.timeout(self._timeout):
                answer: object = await once_more(self._sleep, self._post, text)
        except TimeoutError:
            raise Temporary(NAME, f"no answer within {self._timeout:g} s", code="timeout") from None
        return sorted(set(_categories(answer)))

    async def _post(self, text: str) -> object:
        try:
            return await self._client.moderations.create(model=self._model, input=text)
        except (OpenAIError, ValueError) as error:
            failure = translated(error, model=self._model)
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        raise failure


def _categories(answer: object) -> Iterator[str]:
    """The SDK does not validate what comes, and what cannot be read must not pass as harmless."""
    results: Any = answer.results if isinstance(answer, ModerationCreateResponse) else None
    if not results or not isinstance(results, list):
        raise Temporary(NAME, "the answer is no moderation: check OPENAI_BASE_URL")
    for result in results:
        categories: object = getattr(result, "categories", None)
        if not isinstance(categories, BaseModel):
            raise Temporary(NAME, "the answer has no categories: check OPENAI_BASE_URL")
        yield from (name for name, is_so in categories.to_dict().items() if is_so is True)
