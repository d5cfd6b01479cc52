"""A slice of `python -m tests.process.outages`."""

from tests.process import outages
from tests.process.outages import Options


async def test_a_few_seconds_without_a_model(ministack: str) -> None:
    options = Options(seconds=4, customers=8, every=4, around=2, settle=60)
    seen = await outages.run(options, ministack, "openai", "throttled")
    assert not seen.imbalances, "\n".join(map(str, seen.imbalances))
    assert set(seen.answers) == {200}
    assert seen.ready == {}
    # It was there, and was not asked without a pause.
    assert 0 < seen.requests < 40
    assert seen.settled_after > 0


def test_rows_are_chosen_by_either_half_of_their_names() -> None:
    assert len(outages.rows_of("")) == 15
    assert outages.rows_of("sqs:slow") == [("sqs", "slow")]
    assert outages.rows_of("twilio,:slow")[-1] == ("secretsmanager", "slow")
    assert len(outages.rows_of("twilio,:slow")) == 7
