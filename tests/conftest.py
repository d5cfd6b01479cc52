"""What tests of every kind share."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replyd.demo.local_aws import LocalAws
from tests.support.scheduling import FileByFile, longest_first


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile | None:
    """Unless another one is asked for by `--dist`."""
    return FileByFile(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first(items)


@pytest.fixture(scope="session")
def ministack() -> Iterator[str]:
    """The endpoint URL of an SQS and DynamoDB that all tests of the session share: use names of
    your own."""
    # A loop factory keeps the loop that pytest-asyncio has set.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        aws = LocalAws()
        runner.run(aws.__aenter__())
        try:
            yield aws.endpoint_url
        finally:
            runner.run(aws.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def _one_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of Python's trusted certificates."""
    file = tmp_path_factory.mktemp("roots") / "one.pem"
    (first, *_) = ssl.create_default_context().get_ca_certs(binary_form=True)
    file.write_text(ssl.DER_cert_to_PEM_cert(first))
    return file


@pytest.fixture(autouse=True)
def _few_roots(_one_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client for HTTPS reads a hundred certificates when it is made, which takes 0.1 s, and the
    doubles speak plain HTTP."""
    monkeypatch.setenv("SSL_CERT_FILE", str(_one_root))
