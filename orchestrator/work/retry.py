"""When a task may move to another replica, and how long it waits before it meets the same one again. No I/O."""

from __future__ import annotations

from random import Random

from adapter_api import Error
from orchestrator.config.settings import RetrySettings

MOVABLE = frozenset({
    "connect_failed", "connection_lost", "stream_incomplete", "not_ready", "overloaded", "engine_failed", "closed",
    "deadline_exceeded",
})  # fmt: skip
"""What may go better elsewhere. The error must say `retryable` too: the adapter knows best, and a deadline that was
the task's own (`total`) is not."""


def may_move(error: Error) -> bool:
    """Return whether a task that has shown nothing may be sent to another replica after `error`."""
    return error.retryable and error.code in MOVABLE


def backoff_s(settings: RetrySettings, rounds: int, random: Random) -> float:
    """Return the seconds to wait before a round over replicas that were all tried `rounds` times; half is jitter."""
    longest = min(settings.backoff_s * float(2 ** min(rounds - 1, 16)), settings.max_backoff_s)
    return longest * (0.5 + random.random() / 2)
