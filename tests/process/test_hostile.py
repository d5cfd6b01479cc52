"""A short run of `python -m tests.process.hostile`."""

from tests.process.conftest import Town
from tests.process.hostile import MEANWHILE, campaign


async def test_strangers_cost_less_than_customers_and_keep_nobody_out(town: Town) -> None:
    figures = await campaign(town, 50)
    report = figures.report()
    for name, statuses in figures.statuses.items():
        assert set(statuses) <= figures.allowed[name], report
        # With a bad signature over 200 fields it is two fifths.
        assert figures.to_valid(name) < 0.75, report
    assert figures.rss_peak - figures.rss_before < 64, report
    assert figures.meanwhile == {200: MEANWHILE}, report
    # Twilio gives up after 15 s.
    assert figures.slowest_seconds < 10, report
