"""What `replyd check` says of an operations port that others can reach."""

import pytest

from replyd.demo.openai_double import OpenAIDouble
from replyd.provision import exit_code
from tests.provision.test_ai_checks import KEY, Place

TOKEN = "a-token-of-16-characters"


@pytest.mark.parametrize(
    ("host", "token", "advice"),
    [
        ("127.0.0.1", TOKEN, ""),
        ("127.0.0.2", "", ""),
        ("::1", "", ""),
        ("localhost", TOKEN, ""),
        ("0.0.0.0", "", "reads metrics and health"),
        ("::", "", "reads metrics and health"),
        ("10.0.0.7", TOKEN, "unencrypted"),
        ("ops.example.com", TOKEN, "unencrypted"),
    ],
)
async def test_who_can_reach_it(host: str, token: str, advice: str) -> None:
    async with OpenAIDouble(api_key=KEY) as openai:
        rows = await Place(openai).check(ops={"host": host, "token": token})
    row = rows.get("operations port")
    assert (row is not None) == bool(advice)
    if row is not None:
        assert row.ok
        assert host in row.found
        assert advice in row.mend
        assert TOKEN not in repr(row)
    assert exit_code(list(rows.values())) == 0
