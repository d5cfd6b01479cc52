"""Which events make which journey."""

import json
from typing import Any

from replyd.demo.journeys import Journeys
from replyd.domain.events import (
    DeliveryReported,
    DependencyFailed,
    Event,
    MessageAccepted,
    MessageDropped,
    ModelAnswered,
    ModelAsked,
    PartSent,
    ToolRan,
    TurnClaimed,
    TurnEnded,
)
from replyd.domain.messages import ConversationKey

KEY = ConversationKey("+447700900001", "c-1")
OTHER = ConversationKey("+447700900002", "c-2")


def accepted(
    sid: str, at: int, closes_at: int, *, key: ConversationKey = KEY, again: bool = False
) -> MessageAccepted:
    return MessageAccepted(key, key.sort, sid, key.partition, 1, at - 20, closes_at, again, at)


def claimed(*sids: str, at: int, attempt: int = 1, waited: int = 2_000) -> TurnClaimed:
    return TurnClaimed(KEY, "c-1", sids, attempt, waited, at)


def answered(*sids: str, at: int) -> ModelAnswered:
    return ModelAnswered(KEY, sids, "gpt-5-mini", 800, 412, 57, at)


def part(number: int, of: int, *sids: str, at: int) -> PartSent:
    return PartSent(KEY, sids, number, of, f"SMr{number}", 100, at)


def ended(outcome: str, *sids: str, at: int, **more: Any) -> TurnEnded:
    return TurnEnded(KEY, "c-1", KEY.partition, outcome, at, sids=sids, **more)


def after(*events: Event) -> Journeys:
    journeys = Journeys()
    for event in events:
        journeys.emit(event)
    return journeys


def only(journeys: Journeys) -> dict[str, Any]:
    (journey,) = journeys.snapshot()
    return journey


def sids_of(journey: dict[str, Any]) -> list[str]:
    return [m["sid"] for m in journey["messages"]]


def step(journey: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [s for s in journey["steps"] if s["name"] == name]
    assert isinstance(found, dict)
    return found


def path(journey: dict[str, Any]) -> str:
    """`accepted window… claimed-` for done, active and todo; `!` for failed."""
    marks = {"done": "", "active": "…", "todo": "-", "failed": "!"}
    return " ".join(s["name"] + marks[s["state"]] for s in journey["steps"])


def test_a_message_waits_with_a_countdown() -> None:
    journey = only(after(accepted("A", 1_000, 3_000)))
    assert path(journey) == "accepted window… claimed- model- sent- recorded-"
    assert step(journey, "window")["closes_at"] == 3_000
    assert step(journey, "accepted")["duration_ms"] == 20
    assert journey["state"] == "waiting"
    assert journey["customer"] == "+447700900001"
    assert journey["total_ms"] is None


def test_a_later_message_moves_the_close_for_all_that_wait() -> None:
    journey = only(after(accepted("A", 1_000, 3_000), accepted("B", 1_700, 3_700)))
    assert sids_of(journey) == ["A", "B"]
    assert step(journey, "window") == {
        "name": "window",
        "state": "active",
        "last_at": 1_700,
        "closes_at": 3_700,
    }


def test_no_wait_is_a_window_that_closes_at_once() -> None:
    assert step(only(after(accepted("A", 1_000, 0))), "window")["closes_at"] == 1_000


def test_conversations_do_not_mix() -> None:
    journeys = after(accepted("A", 1_000, 3_000), accepted("B", 1_100, 3_100, key=OTHER))
    assert [sids_of(j) for j in journeys.snapshot()] == [["B"], ["A"]]


def test_a_burst_becomes_one_turn_and_one_reply() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        accepted("B", 1_700, 3_700),
        claimed("A", "B", at=3_738, waited=2_738),
        ModelAsked(KEY, ("A", "B"), 3_740),
    )
    journey = only(journeys)
    assert path(journey) == "accepted window claimed model… sent- recorded-"
    assert journey["state"] == "working"
    assert step(journey, "window")["duration_ms"] == 2_738
    assert step(journey, "claimed")["duration_ms"] == 38

    journeys.emit(answered("A", "B", at=4_540))
    assert path(only(journeys)) == "accepted window claimed model sent… recorded-"
    model = step(only(journeys), "model")
    assert (model["duration_ms"], model["input_tokens"], model["output_tokens"]) == (800, 412, 57)

    journeys.emit(part(1, 2, "A", "B", at=4_640))
    assert step(only(journeys), "sent")["state"] == "active"
    journeys.emit(part(2, 2, "A", "B", at=4_740))
    assert step(only(journeys), "sent")["duration_ms"] == 200

    journeys.emit(ended("replied", "A", "B", at=4_800, attempt=1))
    assert path(only(journeys)) == "accepted window claimed model sent recorded"
    assert only(journeys)["state"] == "replied"
    assert only(journeys)["total_ms"] == 3_800
    assert journeys.totals() == {"accepted": 2, "turns": 1, "replies": 1, "handed_over": 0}


def test_a_message_that_comes_while_the_model_thinks_waits_for_itself() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        claimed("A", at=3_010),
        ModelAsked(KEY, ("A",), 3_020),
        accepted("B", 3_500, 5_500),
    )
    assert [(sids_of(j), j["state"]) for j in journeys.snapshot()] == [
        (["B"], "waiting"),
        (["A"], "working"),
    ]


def test_and_joins_when_the_model_is_asked_again_with_it() -> None:
    journey = only(
        after(
            accepted("A", 1_000, 3_000),
            claimed("A", at=3_010),
            ModelAsked(KEY, ("A",), 3_020),
            accepted("B", 3_500, 5_500),
            answered("A", at=3_900),
            ModelAsked(KEY, ("A", "B"), 3_910),
        )
    )
    assert sids_of(journey) == ["A", "B"]
    assert journey["restarts"] == 1
    assert path(journey) == "accepted window claimed model… sent- recorded-"


def test_what_a_claim_leaves_behind_goes_on_waiting() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000), accepted("B", 1_100, 3_100), claimed("A", at=3_000)
    )
    assert [(sids_of(j), j["state"]) for j in journeys.snapshot()] == [
        (["B"], "waiting"),
        (["A"], "working"),
    ]


def test_a_handed_over_message_ends_with_the_reason() -> None:
    journeys = after(
        accepted("A", 1_000, 0),
        claimed("A", at=1_040, waited=40),
        ended("handed_over", "A", at=1_080, reason="requested"),
    )
    assert path(only(journeys)) == "accepted window claimed handed_over"
    assert step(only(journeys), "handed_over")["reason"] == "requested"
    assert journeys.totals() == {"accepted": 1, "turns": 1, "replies": 0, "handed_over": 1}


def test_a_tool_is_part_of_the_models_step_and_no_restart() -> None:
    journey = only(
        after(
            accepted("A", 1_000, 3_000),
            claimed("A", at=3_010),
            ModelAsked(KEY, ("A",), 3_020),
            answered("A", at=3_820),
            ToolRan(KEY, ("A",), "order_status", "done", 5, 3_830),
            ModelAsked(KEY, ("A",), 3_840),
        )
    )
    model = step(journey, "model")
    assert model["tools"] == [{"name": "order_status", "outcome": "done"}]
    assert (model["state"], model["at"], journey["restarts"]) == ("active", 3_020, 0)


def test_the_models_step_counts_every_round() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        claimed("A", at=3_010),
        ModelAsked(KEY, ("A",), 3_020),
        answered("A", at=3_820),
        ToolRan(KEY, ("A",), "order_status", "failed", 5, 3_830),
        ModelAsked(KEY, ("A",), 3_840),
        answered("A", at=4_640),
    )
    model = step(only(journeys), "model")
    assert (model["duration_ms"], model["input_tokens"], model["output_tokens"]) == (1600, 824, 114)


def test_newer_messages_make_the_model_forget_its_tools() -> None:
    journey = only(
        after(
            accepted("A", 1_000, 3_000),
            claimed("A", at=3_010),
            ModelAsked(KEY, ("A",), 3_020),
            answered("A", at=3_820),
            ToolRan(KEY, ("A",), "order_status", "done", 5, 3_830),
            ModelAsked(KEY, ("A",), 3_840),
            accepted("B", 3_900, 5_900),
            answered("A", at=4_640),
            ModelAsked(KEY, ("A", "B"), 4_650),
            answered("A", "B", at=5_450),
        )
    )
    model = step(journey, "model")
    assert "tools" not in model
    assert (journey["restarts"], model["duration_ms"]) == (1, 800)


def test_an_ai_that_hands_over_says_goodbye_first() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        claimed("A", at=3_010),
        ModelAsked(KEY, ("A",), 3_020),
        answered("A", at=3_820),
        part(1, 1, "A", at=3_900),
        ended("handed_over", "A", at=4_000, reason="ai_handed_over"),
    )
    assert path(only(journeys)) == "accepted window claimed model sent handed_over"
    assert only(journeys)["state"] == "handed_over"
    assert journeys.totals() == {"accepted": 1, "turns": 1, "replies": 0, "handed_over": 1}


def test_a_retry_waits_until_its_time_and_takes_what_came_meanwhile() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        claimed("A", at=3_010),
        ModelAsked(KEY, ("A",), 3_020),
        ended("retry", "A", at=3_500, attempt=1, retry_in_ms=2_000, reason="temporary"),
        accepted("B", 3_600, 5_600),
    )
    waiting = journeys.snapshot()[1]
    assert path(waiting) == "accepted window claimed model! retry…"
    assert step(waiting, "retry")["until"] == 5_500

    journeys.emit(claimed("A", "B", at=5_650, attempt=2))
    assert sids_of(only(journeys)) == ["A", "B"]
    assert only(journeys)["attempt"] == 2
    assert path(only(journeys)) == "accepted window claimed model- sent- recorded-"


def test_a_retry_without_a_pause_promises_no_time() -> None:
    journey = only(
        after(
            accepted("A", 1_000, 3_000),
            claimed("A", at=3_010),
            ended("retry", "A", at=3_500, attempt=1, reason="drain"),
        )
    )
    assert path(journey) == "accepted window claimed retry…"
    assert "until" not in step(journey, "retry")


def test_a_lost_lease_told_after_the_next_claim_changes_nothing() -> None:
    journeys = after(accepted("A", 1_000, 3_000), claimed("A", at=3_010))
    journeys.emit(claimed("A", at=70_000, attempt=2))
    journeys.emit(ended("lease_lost", "A", at=70_010, attempt=1))
    assert only(journeys)["state"] == "working"
    journeys.emit(ended("lease_lost", "A", at=70_020, attempt=2))
    assert step(only(journeys), "retry")["reason"] == "lease_lost"


def test_a_partly_sent_reply_has_failed() -> None:
    journey = only(
        after(
            accepted("A", 1_000, 3_000),
            claimed("A", at=3_010),
            ModelAsked(KEY, ("A",), 3_020),
            answered("A", at=3_820),
            part(1, 2, "A", at=3_900),
            ended("partly_sent", "A", at=4_000, reason="permanent", detail="twilio 63016"),
        )
    )
    assert path(journey) == "accepted window claimed model sent! failed!"
    assert step(journey, "failed")["detail"] == "twilio 63016"


def test_a_dropped_message_says_why() -> None:
    journey = only(after(MessageDropped("A", "+447700900009", "unknown_sender", 1_000)))
    assert path(journey) == "dropped!"
    assert (journey["customer"], journey["state"]) == ("+447700900009", "dropped")


def test_a_repeated_delivery_is_counted_not_shown_twice() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        accepted("A", 1_500, 3_500, again=True),
        MessageDropped("A", KEY.partition, "already_settled", 9_000),
    )
    assert only(journeys)["messages"][0]["repeats"] == 2
    assert step(only(journeys), "window")["closes_at"] == 3_000
    assert journeys.totals()["accepted"] == 1


def test_a_claim_that_overtakes_the_acceptance_keeps_its_message() -> None:
    journeys = after(claimed("A", at=1_010, waited=10), accepted("A", 1_015, 0))
    assert sids_of(only(journeys)) == ["A"]
    assert only(journeys)["state"] == "working"
    assert only(journeys)["customer"] == KEY.partition
    assert journeys.totals()["accepted"] == 1


def test_deliveries_reach_their_part_and_never_go_backwards() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        claimed("A", at=3_010),
        part(1, 1, "A", at=3_900),
        ended("replied", "A", at=4_000),
    )
    for status in ("sent", "read", "delivered"):
        journeys.emit(DeliveryReported("SMr1", status, "", True, 5_000))
    journeys.emit(DeliveryReported("SM-unknown", "failed", "63016", False, 5_000))
    assert step(only(journeys), "sent")["sent"] == [{"part": 1, "sid": "SMr1", "delivery": "read"}]


def test_an_end_without_messages_is_the_open_turns() -> None:
    journeys = after(accepted("A", 1_000, 3_000), ended("retry", at=3_010, retry_in_ms=1_000))
    assert path(only(journeys)) == "accepted window retry…"
    journeys = after(accepted("A", 1_000, 3_000), ended("nothing_to_do", at=3_010))
    assert only(journeys)["state"] == "waiting"


def test_a_withheld_answer_is_an_end_of_its_own_and_no_reply() -> None:
    journeys = after(
        accepted("A", 1_000, 3_000),
        claimed("A", at=3_010),
        ended("withheld", "A", at=3_020, reason="over_limit"),
    )
    assert only(journeys)["state"] == "withheld"
    assert path(only(journeys)) == "accepted window claimed withheld"
    assert step(only(journeys), "withheld")["reason"] == "over_limit"
    assert (journeys.totals()["turns"], journeys.totals()["replies"]) == (1, 0)
    # It is over: what comes next is another turn.
    journeys.emit(accepted("B", 4_000, 6_000))
    assert [sids_of(j) for j in journeys.snapshot()] == [["B"], ["A"]]


def test_a_persons_answer_is_no_part_of_the_open_turn() -> None:
    journeys = after(accepted("A", 1_000, 3_000), part(1, 1, at=2_000), claimed("A", at=3_010))
    assert path(only(journeys)) == "accepted window claimed model- sent- recorded-"


def test_only_the_last_messages_are_remembered() -> None:
    journeys = Journeys(keep=3)
    for i in range(5):
        journeys.emit(accepted(f"S{i}", 1_000 + i, 3_000))
    assert sids_of(only(journeys)) == ["S2", "S3", "S4"]
    journeys.emit(claimed("S2", "S3", "S4", at=3_010))
    for i in range(3):
        journeys.emit(accepted(f"T{i}", 4_000 + i, 6_000))
    assert sids_of(only(journeys)) == ["T0", "T1", "T2"]
    assert journeys.totals()["accepted"] == 8
    # An event about what is forgotten is no error.
    journeys.emit(ModelAsked(KEY, ("S2",), 7_000))


def test_only_a_change_is_told() -> None:
    told: list[int] = []
    journeys = Journeys(lambda: told.append(1))
    journeys.emit(DependencyFailed("openai", "respond", "timeout"))
    journeys.emit(ModelAsked(KEY, ("unknown",), 1))
    assert told == []
    journeys.emit(accepted("A", 1_000, 3_000))
    assert told == [1]


def test_a_snapshot_is_json() -> None:
    journeys = after(accepted("A", 1_000, 3_000), claimed("A", at=3_010), part(1, 1, "A", at=4))
    assert json.loads(json.dumps(journeys.snapshot())) == journeys.snapshot()
