"""The circuit breaker, on a clock of the test's own."""

from __future__ import annotations

import pytest

from orchestrator.config.settings import BreakerSettings
from orchestrator.pools.breaker import Breaker, BreakerState
from tests.orchestrator.fake_clock import FakeClock


def breaker(clock: FakeClock, failures: int = 2) -> Breaker:
    return Breaker(BreakerSettings(failures=failures, open_s=5, max_open_s=15), clock)


def open_one(clock: FakeClock) -> Breaker:
    opened = breaker(clock)
    for _ in range(2):
        assert not opened.begin()
        opened.failed("connection_lost")
    return opened


@pytest.mark.spec("ORCH-3057-026")
def test_failures_in_a_row_open_it_and_a_success_between_them_does_not_count_as_one() -> None:
    tested = breaker(FakeClock())

    tested.failed("connection_lost")
    tested.succeeded()
    tested.failed("connection_lost")
    assert tested.state == "closed"

    tested.failed("connection_lost")
    assert tested.state == "open"
    assert not tested.allows
    assert tested.reason == "2 failures in a row, the last one connection_lost"


def test_it_lets_one_trial_through_when_its_time_is_up() -> None:
    clock = FakeClock()
    tested = open_one(clock)
    assert tested.opens_for_s == 5

    clock.advance(5)
    assert tested.state is BreakerState.HALF_OPEN
    assert tested.allows

    assert tested.begin()
    assert not tested.allows, "a second trial beside the first"
    assert not tested.begin()


def test_a_trial_that_succeeds_closes_it() -> None:
    clock = FakeClock()
    tested = open_one(clock)
    clock.advance(5)
    trial = tested.begin()

    tested.succeeded(trial=trial)
    tested.trial_over()

    assert tested.state == "closed"
    assert tested.reason == ""


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    clock = FakeClock()
    tested = open_one(clock)
    waits = []
    for _ in range(3):
        clock.advance(tested.opens_for_s)
        trial = tested.begin()
        tested.failed("engine_failed", trial=trial)
        tested.trial_over()
        waits.append(tested.opens_for_s)

    assert waits == [10, 15, 15]


def test_a_trial_that_is_cancelled_gives_its_place_to_the_next() -> None:
    clock = FakeClock()
    tested = open_one(clock)
    clock.advance(5)
    assert tested.begin()

    tested.trial_over()

    assert tested.state is BreakerState.HALF_OPEN
    assert tested.allows


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_a_task_from_before_the_breaker_opened_decides_nothing(outcome: str) -> None:
    clock = FakeClock()
    tested = open_one(clock)
    clock.advance(5)
    trial = tested.begin()

    if outcome == "succeeded":
        tested.succeeded()
    else:
        tested.failed("connection_lost")
    assert tested.state == "half_open"
    assert not tested.allows, "the trial is still running"

    tested.succeeded(trial=trial)
    assert tested.state == "closed"


def test_one_failure_opens_it_at_once_when_it_is_enough() -> None:
    tested = breaker(FakeClock(), failures=5)

    assert tested.failed("engine_failed", at_once=True)

    assert tested.state == "open"
    assert tested.reason == "1 failure, the last one engine_failed"


def test_after_a_refusal_no_trial_is_let_through_before_a_question_was_answered() -> None:
    clock = FakeClock()
    tested = breaker(clock)
    tested.failed("unauthenticated", at_once=True, ask_first=True)
    assert not tested.wants_question, "its time is not up"

    clock.advance(5)
    assert tested.wants_question
    assert not tested.allows

    tested.answered()
    assert tested.allows
    assert tested.begin()


def test_a_task_that_went_there_while_it_was_open_decides_as_a_trial_does() -> None:
    tested = open_one(FakeClock())

    trial = tested.begin()
    assert trial
    assert tested.succeeded(trial=trial), "it closed, and said so"

    assert tested.state == "closed"
