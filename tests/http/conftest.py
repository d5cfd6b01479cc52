"""Everything that is logged during a test, by whomever, must be expected by it."""

import io
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from replyd.telemetry.logs import configure
from tests.http.wire import Site, serving


class Log:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def take(self) -> str:
        """What was logged so far."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    """replyd's own log as in production, and the libraries' whole, from DEBUG on."""
    log = Log()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("DEBUG", "json", log.stream)
    root.addHandler(logging.StreamHandler(log.stream))
    root.setLevel(logging.DEBUG)
    # Names its selector for every new loop.
    logging.getLogger("asyncio").setLevel(logging.INFO)
    yield log
    logging.getLogger("asyncio").setLevel(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    assert log.take() == ""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site
