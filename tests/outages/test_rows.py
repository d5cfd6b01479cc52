"""Each row of docs/dependencies.md, as it says: no more and no less."""

import pytest

from tests.outages import rows
from tests.outages.rows import Row
from tests.outages.world import OutageWorld
from tests.support.fault_proxy import DEPENDENCIES, MODES

ROWS = rows.rows(rows.PAGE.read_text("utf-8"))


def test_the_page_has_every_row_once() -> None:
    wanted = [(dependency, mode) for dependency in DEPENDENCIES for mode in MODES]
    assert [(row.dependency, row.mode) for row in ROWS] == wanted


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.dependency}-{row.mode}")
async def test_a_minute_without_a_dependency(row: Row) -> None:
    world = OutageWorld(row.dependency)
    seen = await world.minute(row.mode)
    assert rows.observed(seen) == row.said
    # Whoever was told 200 was answered once; whoever was not was found in Twilio's list.
    assert seen.balance.imbalances == []
    assert seen.balance.counts["not acknowledged, lost"] == 0
    assert seen.balance.counts["not acknowledged, staged without a wake-up"] == 0
    assert seen.balance.counts["messages answered"] + seen.at_people == len(world.asked)
    # Ready, not ready, ready again.
    assert seen.changes == len(seen.ready)
    assert world.queue.messages == {}
    assert world.queue.dead == []
