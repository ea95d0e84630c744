"""The circuit breaker, on a clock of the test's own."""

from __future__ import annotations

import pytest

from adapter_api import Error
from adapter_api.errors import DeadlineStage
from orchestrator.config.settings import BreakerSettings
from orchestrator.pools.breaker import Breaker, BreakerState, blames_the_replica
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


@pytest.mark.spec("ORCH-3057-027")
@pytest.mark.parametrize(
    "code, blamed",
    [
        ("invalid_request", False), ("context_length_exceeded", False), ("model_not_found", False),
        ("unsupported", False), ("job_conflict", False), ("overloaded", False), ("not_ready", False),
        ("closed", False), ("connect_failed", True), ("connection_lost", True), ("stream_incomplete", True),
        ("engine_failed", True), ("protocol_violation", True), ("unauthenticated", True), ("adapter_failed", True),
    ],
)  # fmt: skip
def test_only_what_the_replica_did_counts_against_it(code: str, blamed: bool) -> None:
    assert blames_the_replica(Error(code=code, message="m", retryable=False)) is blamed


@pytest.mark.parametrize(
    "stage, blamed", [("total", False), ("queue", False), ("first_token", True), ("inter_token", True)]
)
def test_a_deadline_counts_unless_it_was_the_tasks_own(stage: DeadlineStage, blamed: bool) -> None:
    assert blames_the_replica(Error(code="deadline_exceeded", message="m", retryable=True, stage=stage)) is blamed
