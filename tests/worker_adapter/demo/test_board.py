"""What the show knows of its tasks."""

from __future__ import annotations

import pytest

from adapter_api import CancelReceipt, End, Error, FinishReason, Started, TaskRequest, Token
from worker_adapter.demo.board import Board, Lane
from worker_adapter.demo.playbill import Act


def lane(prompt: str = "a", *, seed: int = 1, cancel_after: int | None = None) -> Lane:
    task = TaskRequest(model="m", prompt=prompt, seed=seed, max_tokens=9)
    return Lane(Act("act", task, cancel_after=cancel_after))


def test_a_lane_gathers_the_text_and_returns_what_is_new() -> None:
    one = lane()

    assert one.take([Started(job_id="j", engine="e", model="m"), Token(0, "a"), Token(1, "b")]) == "ab"
    assert one.take([Token(2, "c")]) == "c"
    assert (one.text, one.tokens) == ("abc", 3)


def test_a_lane_without_a_token_has_no_speed_and_no_time_to_first_token() -> None:
    one = lane()
    one.take([Started(job_id="j", engine="e", model="m")])

    assert (one.first_token_ms, one.tokens_per_s, one.outcome) == (None, None, "running")


def test_the_speed_counts_the_gaps_between_tokens() -> None:
    one = lane()
    one.take([Token(index, "x") for index in range(5)])
    one.submitted, one.first_token, one.last_token = 1.0, 2.0, 4.0

    assert (one.first_token_ms, one.tokens_per_s) == (1000.0, 2.0)


@pytest.mark.parametrize(
    "reason, cancel_after, planned",
    [("length", None, True), ("cancelled", 3, True), ("length", 3, False), ("cancelled", None, False)],
)
def test_a_cancel_is_as_planned_only_where_it_was_planned(
    reason: FinishReason, cancel_after: int | None, planned: bool
) -> None:
    one = lane(cancel_after=cancel_after)
    one.take([End(finish_reason=reason)])

    assert one.went_as_planned is planned


def test_an_error_is_never_as_planned() -> None:
    one = lane()
    one.take([Error(code="engine_failed", message="x", retryable=False)])

    assert (one.went_as_planned, one.outcome) == (False, "engine_failed")


@pytest.mark.parametrize("texts, agree", [(("x", "x"), True), (("x", "y"), False)])
def test_twins_agree_when_their_texts_do(texts: tuple[str, str], agree: bool) -> None:
    lanes = [lane(), lane()]
    for one, text in zip(lanes, texts, strict=True):
        one.take([Token(0, text)])

    assert Board(lanes).twins_agree is agree


def test_without_twins_there_is_nothing_to_agree_on() -> None:
    assert Board([lane(seed=1), lane(seed=2)]).twins_agree is None


def test_the_board_adds_its_lanes_up() -> None:
    lanes = [lane(), lane(seed=2)]
    lanes[0].take([Token(0, "x"), End(finish_reason="stop")])
    lanes[1].take([Token(0, "y"), Token(1, "z")])
    lanes[1].receipt = CancelReceipt(found=True)

    board = Board(lanes)

    assert (board.tokens, board.running) == (3, 1)
