"""When a task may move on, and how long it waits."""

from __future__ import annotations

from random import Random

import pytest

from adapter_api import Error
from orchestrator.config.settings import RetrySettings
from orchestrator.work.retry import backoff_s, may_move


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
        ("unauthenticated", False, False),
        ("deadline_exceeded", False, False),
        ("deadline_exceeded", True, True),
    ],
)
def test_a_task_moves_when_the_error_is_retryable_and_elsewhere_may_be_better(
    code: str, retryable: bool, moves: bool
) -> None:
    assert may_move(Error(code=code, message="m", retryable=retryable)) is moves


def test_the_wait_doubles_up_to_its_limit_and_half_of_it_is_jitter() -> None:
    settings = RetrySettings(backoff_s=0.1, max_backoff_s=0.4)

    for rounds, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (9, 0.4)):
        waits = [backoff_s(settings, rounds, Random(seed)) for seed in range(50)]
        assert longest / 2 <= min(waits)
        assert max(waits) <= longest
        assert len(set(waits)) > 40
