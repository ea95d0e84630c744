"""The line of waiting tasks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from adapter_api import Overloaded, Priority
from orchestrator.config.settings import QueueSettings
from orchestrator.pools.admission import WaitingLine


def line(**settings: Any) -> WaitingLine[str]:
    return WaitingLine(QueueSettings(**settings), "blue")


def serve_all(waiting: WaitingLine[str]) -> list[str]:
    served = []
    while (item := waiting.serve(lambda item: True)) is not None:
        served.append(item)
    return served


@pytest.mark.spec("ORCH-3055-025")
def test_interactive_tasks_go_first_and_batch_tasks_do_not_starve() -> None:
    waiting = line(batch_every=3)
    for item in ("b1", "b2"):
        waiting.join(item, "batch")
    for item in ("i1", "i2", "i3", "i4", "i5"):
        waiting.join(item, "interactive")

    assert list(waiting) == ["i1", "i2", "b1", "i3", "i4", "b2", "i5"]
    assert serve_all(waiting) == ["i1", "i2", "b1", "i3", "i4", "b2", "i5"]


@pytest.mark.spec("ORCH-3055-026")
def test_a_full_line_refuses_the_newcomer_and_says_when_to_come_back() -> None:
    waiting = line(limit=1, policy="reject")
    waiting.join("first", "interactive")

    with pytest.raises(Overloaded) as refused:
        waiting.join("second", "interactive", retry_after_s=2.5)

    assert refused.value.retry_after_s == 2.5
    assert list(waiting) == ["first"]


@pytest.mark.spec("ORCH-3055-026")
@pytest.mark.parametrize(
    "there, newcomer, dropped",
    [
        (["i-old", "i-new"], "i-newest", "i-old"),
        (["i-old", "b-old", "b-new"], "i-newest", "b-old"),
        (["b-old", "b-new"], "b-newest", "b-old"),
    ],
)
def test_drop_lru_drops_the_one_that_waited_longest_batch_tasks_first(
    there: list[str], newcomer: str, dropped: str
) -> None:
    waiting = line(limit=len(there), policy="drop-lru")
    for item in there:
        waiting.join(item, priority_of(item))

    assert waiting.join(newcomer, priority_of(newcomer)) == dropped
    assert set(waiting) == {*there, newcomer} - {dropped}


def test_a_batch_task_never_drives_out_an_interactive_one() -> None:
    waiting = line(limit=1, policy="drop-lru")
    waiting.join("i", "interactive")

    with pytest.raises(Overloaded):
        waiting.join("b", "batch")


@pytest.mark.spec("ORCH-3055-040")
@pytest.mark.parametrize("limit, batch", [(2, 1), (3, 2), (4, 3), (100, 75)])
def test_batch_tasks_leave_a_part_of_the_line_to_interactive_ones(limit: int, batch: int) -> None:
    waiting = line(limit=limit, policy="reject")
    for number in range(batch):
        waiting.join(f"b{number}", "batch")

    with pytest.raises(
        Overloaded,
        match=rf"^{batch} batch tasks wait for pool 'blue' .* share of its queue \(pools\.queue\.batch_share\)",
    ):
        waiting.join("one too many", "batch")
    for number in range(limit - batch):
        waiting.join(f"i{number}", "interactive")

    with pytest.raises(Overloaded, match=rf"^the queue of pool 'blue' is full: {limit} .* \(pools\.queue\.limit\)"):
        waiting.join("no place left", "interactive")


@pytest.mark.spec("ORCH-3055-040")
def test_each_lane_has_the_share_that_the_settings_give_it() -> None:
    waiting = line(limit=10, batch_share=1, interactive_share=0.5)
    for number in range(5):
        waiting.join(f"i{number}", "interactive")

    with pytest.raises(Overloaded):
        waiting.join("i5", "interactive")
    for number in range(5):
        waiting.join(f"b{number}", "batch")

    assert len(waiting) == 10


def test_a_line_of_one_place_is_open_to_both_lanes() -> None:
    waiting = line(limit=1)
    waiting.join("b", "batch")

    assert list(waiting) == ["b"]


def test_no_task_waits_where_none_may() -> None:
    for policy in ("reject", "drop-lru"):
        with pytest.raises(Overloaded):
            line(limit=0, policy=policy).join("i", "interactive")


def test_who_cannot_be_served_now_keeps_its_place_and_lets_others_pass() -> None:
    waiting = line()
    for item in ("i1", "i2", "i3"):
        waiting.join(item, "interactive")

    assert waiting.serve(lambda item: item == "i2") == "i2"
    assert list(waiting) == ["i1", "i3"]


def test_one_that_had_its_turn_comes_back_to_the_front() -> None:
    waiting = line(limit=1)
    waiting.join("i1", "interactive")
    waiting.rejoin("i0", "interactive")

    assert list(waiting) == ["i0", "i1"]


def test_leaving_is_done_once() -> None:
    waiting = line()
    waiting.join("i1", "interactive")

    assert waiting.leave("i1", "interactive")
    assert not waiting.leave("i1", "interactive")
    assert len(waiting) == 0


@pytest.mark.spec("ORCH-3055-027")
def test_the_position_told_on_arrival_is_the_place_in_the_order_of_service() -> None:
    rng = random.Random(7)
    waiting = line(batch_every=4)

    for number in range(400):
        if rng.random() < 0.45:
            waiting.serve(lambda item: True)
        item = f"{rng.choice('ib')}{number}"
        waiting.join(item, priority_of(item))

        assert waiting.ahead_of_last(priority_of(item)) == list(waiting).index(item)


def priority_of(item: str) -> Priority:
    return "batch" if item.startswith("b") else "interactive"
