"""What `pytest -n` gives to which worker, and in which order.

A file goes to one worker, so that what its tests share is made once. xdist_group would not do it:
what xdist 3.8 adds to a test's id, pytest 9.2 does not show."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# The longest come first: whoever has nothing left at the end waits for a short one.
LONGEST = (
    "tests/packaging/test_dockerfile.py",
    "tests/process/",
    "tests/demo/",
    "tests/contract/",
    "tests/model/",
    "tests/simulation/",
)
# A Java machine for each worker takes half a minute.
DYNAMODB_LOCAL = "[local"


def unit(test: str) -> str:
    """What goes to one worker together with the test of this id."""
    return DYNAMODB_LOCAL if DYNAMODB_LOCAL in test else test.partition("::")[0]


class FileByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed
    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        # By the number of tests, which says nothing about how long they take.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def longest_first(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        found = (n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(found, len(LONGEST))

    items.sort(key=place)
