"""The table."""

from collections.abc import Mapping
from typing import Any, Protocol

from replyd.domain.expressions import Condition, Step, StepResult
from replyd.domain.messages import (
    ConversationKey,
)
from replyd.domain.record import Candidate


class ConversationStore(Protocol):
    """The table. Every method raises Temporary, DependencyDown or Permanent."""

    async def lookup(self, customer: str, sid: str) -> list[Candidate]:
        """All records of a customer; `seen` tells whether one has accepted this SID."""
        ...

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        """One conditional update. A refusal brings the item as it was, at no further read."""
        ...

    async def read(self, key: ConversationKey) -> dict[str, Any] | None:
        """The item, strongly consistent."""
        ...

    async def create(self, key: ConversationKey, attributes: Mapping[str, Any]) -> bool:
        """Put a new item; false when one is there already."""
        ...

    async def erase(
        self,
        key: ConversationKey,
        condition: Condition,
        *,
        leaving: Mapping[str, Any] | None = None,
    ) -> StepResult:
        """Delete the item, or put one with its key and these attributes alone in its place, under
        this condition. A refusal brings the item as it was."""
        ...

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], expires_at: int | None, *, part: str = ""
    ) -> None:
        """Put an item under a partition key of its own, such as `inbound#<sid>`. `expires_at`:
        epoch seconds after which the table may drop it, None to keep it. `part`: one of several
        items of that name, in their order."""
        ...

    async def get_side(self, name: str) -> dict[str, Any] | None:
        """With the table's own key in it: attributes of those names are not to be had back."""
        ...

    async def delete_side(self, name: str, *, part: str = "") -> bool:
        """Whether there was one; a request that had to be repeated may say that there was none."""
        ...

    async def once_per(self, name: str, now: int, period: int) -> bool:
        """True for one caller per `period`, for all instances; times in epoch seconds."""
        ...
