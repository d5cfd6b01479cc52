"""How long replies take to arrive, by the callbacks that reach the process that sent them."""

from collections import OrderedDict

_KEPT = 10_000


class DeliveryTimes:
    """Remembers the newest parts that were sent; with many instances most callbacks are another's,
    and what is measured is a sample."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, int] = OrderedDict()

    def sent(self, sid: str, at: int) -> None:
        """Twilio has accepted this part; `at`: epoch ms."""
        self._sent[sid] = at
        while len(self._sent) > _KEPT:
            self._sent.popitem(last=False)

    def delivered(self, sid: str, at: int) -> float | None:
        """Seconds since it was accepted; None for a part that is not known, or was delivered."""
        sent = self._sent.pop(sid, None)
        return None if sent is None else max(0, at - sent) / 1000
