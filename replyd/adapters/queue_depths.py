"""How many messages a queue on SQS has, and its dead-letter queue."""

from typing import Any

from replyd.adapters import aws
from replyd.adapters.dead_letters import DeadLetters, dead_letter_arn
from replyd.ports import Depth

_COUNTS = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


class SqsDepths:
    """Implements `ports.WatchedQueue`; `client` is an aiobotocore SQS client."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self._letters = DeadLetters(client)
        # The dead-letter queue's ARN, None before the policy was read, and by ARN its URL.
        self._arn: str | None = None
        self._urls: dict[str, str] = {}

    async def depth(self) -> Depth:
        attributes = await self._attributes(self._url)
        self._arn = dead_letter_arn(attributes)
        return _depth(attributes)

    async def dead_letters(self) -> Depth | None:
        """By the redrive policy that the last `depth` saw, so that it is not read twice."""
        if self._arn is None:
            await self.depth()
        if not self._arn:
            return None
        if self._arn not in self._urls:
            self._urls = {self._arn: await self._letters.url_of(self._arn)}
        return _depth(await self._attributes(self._urls[self._arn]))

    async def _attributes(self, url: str) -> dict[str, str]:
        wanted = [*_COUNTS.values(), "RedrivePolicy"]
        answer = await aws.call(
            "sqs",
            lambda: self._client.get_queue_attributes(QueueUrl=url, AttributeNames=wanted),
        )
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes


def _depth(attributes: dict[str, str]) -> Depth:
    return Depth(**{field: int(attributes.get(name, 0)) for field, name in _COUNTS.items()})
