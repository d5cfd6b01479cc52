"""schemathesis, on the operator API's own document: no answer that it does not describe."""

import asyncio
import sys
from pathlib import Path

from tests.http.conftest import Log
from tests.http.test_operator_api import TOKEN, Office, office

__all__ = ["office"]


async def test_no_request_gets_an_answer_that_the_document_does_not_describe(
    office: Office, log: Log
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{office.url}/operator/openapi.json",
        "--url",
        office.url,
        *("--header", f"Authorization: Bearer {TOKEN}"),
        # A cursor is what an earlier answer gave: the document cannot say which texts are one.
        *("--exclude-checks", "positive_data_acceptance"),
        *("--max-examples", "15", "--seed", "1", "--workers", "1", "--no-color"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-6000:]
    # It begins with a header that is none, which the server logs.
    assert "bug" not in log.take()
