"""Whether the process can do its work: what `/readyz` says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from replyd.domain.events import DependencyFailed, Event, ModelAnswered, PartSent
from replyd.errors import ReplydError
from replyd.ports import Clock

_log = structlog.get_logger("replyd")

PROBE_SECONDS = 3.0
_PROBE_KEPT_SECONDS = 2.0
# A vendor that failed counts as down until it answers again, or for this long.
_FAILURE_KEPT_SECONDS = 60.0
# A vendor that answers with errors, or not at all, so often in a row is down too.
_FAILURES_IN_A_ROW = 5
_VENDORS = frozenset({"openai", "twilio"})


class Health:
    """A telemetry sink that remembers what vendors did, and probes AWS when asked.

    `probes`: by dependency, a cheap request that raises when it cannot be used."""

    def __init__(
        self,
        clock: Clock,
        probes: Mapping[str, Callable[[], Awaitable[object]]],
        *,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._clock = clock
        self._probes = probes
        self._probe_seconds = probe_seconds
        self._failed: dict[str, tuple[float, str]] = {}
        # By vendor, when the last failure was and how many there were in a row.
        self._unwell: dict[str, tuple[float, int]] = {}
        self._probed: tuple[float, dict[str, str]] = (float("-inf"), {})
        self._probing = asyncio.Lock()
        self.starting = True
        self.draining = False

    def emit(self, event: Event) -> None:
        if isinstance(event, DependencyFailed):
            if event.dependency in self._probes:
                return
            # One customer's failure, or a hiccup, says nothing of the others.
            if event.down or self._again(event) >= _FAILURES_IN_A_ROW:
                self._failed[event.dependency] = (self._clock.elapsed(), event.reason)
        elif isinstance(event, ModelAnswered):
            self._answered("openai")
        elif isinstance(event, PartSent):
            self._answered("twilio")

    def _again(self, event: DependencyFailed) -> int:
        """How many times in a row the vendor has failed by now."""
        if not event.unwell or event.dependency not in _VENDORS:
            return 0
        now = self._clock.elapsed()
        at, times = self._unwell.get(event.dependency, (now, 0))
        times = times + 1 if now - at <= _FAILURE_KEPT_SECONDS else 1
        self._unwell[event.dependency] = (now, times)
        return times

    def _answered(self, vendor: str) -> None:
        self._failed.pop(vendor, None)
        self._unwell.pop(vendor, None)

    async def problems(self) -> dict[str, str]:
        """What stands in the way, by dependency; empty when ready."""
        if self.draining:
            return {"replyd": "draining"}
        if self.starting:
            return {"replyd": "starting"}
        horizon = self._clock.elapsed() - _FAILURE_KEPT_SECONDS
        found = {name: reason for name, (at, reason) in self._failed.items() if at > horizon}
        return found | await self._probe()

    async def _probe(self) -> dict[str, str]:
        async with self._probing:
            at, problems = self._probed
            if self._clock.elapsed() - at > _PROBE_KEPT_SECONDS:
                answers = await asyncio.gather(
                    *(_reason(probe, self._probe_seconds) for probe in self._probes.values())
                )
                problems = {
                    name: reason
                    for name, reason in zip(self._probes, answers, strict=True)
                    if reason
                }
                self._probed = (self._clock.elapsed(), problems)
            return problems


async def _reason(probe: Callable[[], Awaitable[object]], seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            await probe()
    except TimeoutError:
        return f"did not answer within {seconds:g} s"
    except ReplydError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - whoever asks wants to know all the same
        _log.exception("a probe ended with a bug")
        return "its check ended with a bug, see the log"
    return ""
