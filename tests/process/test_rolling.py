"""A slice of `python -m tests.process.rolling`."""

from tests.process import rolling
from tests.process.rolling import Options


async def test_a_rolling_restart_under_load_refuses_loses_and_doubles_nothing(
    ministack: str,
) -> None:
    options = Options(
        rounds=1, rate=5, customers=10, model=(0.3, 1.5), settle=30, queue=False, beyond=20
    )
    said: list[str] = []
    report = await rolling.run(options, ministack, said.append)
    assert not report.balance.imbalances, "\n".join(
        [*map(str, report.balance.imbalances), *map(str, report.restarts), *said]
    )
    assert len(report.restarts) == 2
    # To start is a matter of CPU, which the tests beside this one take too. To end is not.
    assert all(done.drain - done.turn < rolling.BEYOND_SECONDS for done in report.restarts)
    assert report.balance.counts["messages answered"]
    assert {posted.reused for posted in report.posted} == {True, False}
