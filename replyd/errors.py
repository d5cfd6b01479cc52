"""What can go wrong, sorted by what to do about it.

Vendor exceptions never leave their adapter: each is translated into one of these.
"""

from collections.abc import Sequence


class ReplydError(Exception):
    """Base of every error replyd raises on purpose."""


class ConfigError(ReplydError):
    """The settings are wrong or incomplete. Exit code 78; one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class DependencyError(ReplydError):
    """A call to a dependency did not succeed.

    `dependency` is its name in metrics and readiness (`dynamodb`, `sqs`, `openai`, `twilio`);
    `reason` says what happened without secrets, numbers or message texts; `code` is the vendor's.
    """

    def __init__(self, dependency: str, reason: str, *, code: str = "") -> None:
        super().__init__(f"{dependency}: {reason}")
        self.dependency = dependency
        self.reason = reason
        self.code = code


class Temporary(DependencyError):
    """It failed for now and is safe to repeat. `delay`: seconds to wait, when the vendor said."""

    def __init__(
        self, dependency: str, reason: str, *, code: str = "", delay: float | None = None
    ) -> None:
        super().__init__(dependency, reason, code=code)
        self.delay = delay


class Busy(Temporary):
    """Not a failure: the other side is throttling. Come back after `delay` seconds."""


class DependencyDown(Temporary):
    """The dependency cannot be used by anybody now: unreachable, or it refuses our credentials."""


class KeepsFailing(DependencyDown):
    """It has failed again and again, whoever asked. Unlike a refusal, this last call may have been
    carried out, and cost something."""


class Permanent(DependencyError):
    """Repeating cannot help. `reason` is one that an operator can act on."""


class NotAllowed(Permanent):
    """The credentials may not do it, until whoever runs replyd allows it: `reason` says how."""


class Ambiguous(DependencyError):
    """The other side may have done it. Never repeat; reconcile."""


class PoisonMessage(ReplydError):
    """A queue body that cannot be read. Left alone, redrive takes it to the dead-letter queue."""
