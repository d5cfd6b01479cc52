"""Of the suite itself: what is dear is made by one worker, and begins early."""

from pathlib import Path

import pytest

from tests.support.scheduling import LONGEST, unit

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize("path", LONGEST)
def test_what_is_to_come_first_exists(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_dynamodb_local_is_one_workers() -> None:
    file = "tests/contract/test_store.py"
    others = ("tests/contract/test_audio.py::test_a[local]", f"{file}::test_a[local-step0]")
    assert len({unit(test) for test in others}) == 1
    assert {unit(f"{file}::{test}") for test in ("test_a[moto]", "test_b")} == {file}
