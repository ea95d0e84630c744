"""When a task may move on, and how long it waits."""

from __future__ import annotations

from random import Random

import pytest

from adapter_api import Error
from orchestrator.config.settings import RetrySettings
from orchestrator.work.retry import backoff_s, may_move, may_stay


@pytest.mark.spec("ORCH-3055-018")
@pytest.mark.parametrize(
    "code, retryable, moves",
    [
        ("connect_failed", True, True),
        ("overloaded", True, True),
        ("engine_failed", False, False),
        ("engine_failed", True, True),
        ("invalid_request", False, False),
        ("invalid_request", True, False),
        ("unauthenticated", False, True),
        ("permission_denied", False, True),
        ("stream_incomplete", True, True),
        ("protocol_violation", False, False),
        ("adapter_failed", False, False),
        ("a code of nobody's", True, False),
        ("deadline_exceeded", False, False),
        ("deadline_exceeded", True, True),
    ],
)
def test_a_task_moves_when_elsewhere_may_be_better(code: str, retryable: bool, moves: bool) -> None:
    assert may_move(Error(code=code, message="m", retryable=retryable)) is moves


@pytest.mark.spec("ORCH-3057-031")
@pytest.mark.parametrize("code, moves", [("engine_failed", True), ("protocol_violation", True), ("unsupported", False)])
def test_a_trial_that_finds_its_model_still_broken_moves_whatever_the_error_says(code: str, moves: bool) -> None:
    assert may_move(Error(code=code, message="m", retryable=False), trial=True) is moves


@pytest.mark.parametrize(
    "code, retryable, stays",
    [("connect_failed", True, True), ("overloaded", True, True), ("engine_failed", True, False),
     ("unauthenticated", False, False), ("permission_denied", False, False), ("overloaded", False, False)],
)  # fmt: skip
def test_the_same_replica_is_asked_again_only_when_waiting_may_mend_it(code: str, retryable: bool, stays: bool) -> None:
    assert may_stay(Error(code=code, message="m", retryable=retryable)) is stays


def test_the_wait_doubles_up_to_its_limit_and_half_of_it_is_jitter() -> None:
    settings = RetrySettings(backoff_s=0.1, max_backoff_s=0.4)

    for rounds, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (9, 0.4)):
        waits = [backoff_s(settings, rounds, Random(seed)) for seed in range(50)]
        assert longest / 2 <= min(waits)
        assert max(waits) <= longest
        assert len(set(waits)) > 40
