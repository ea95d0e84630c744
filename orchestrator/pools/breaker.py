"""The circuit breaker: leaves a replica alone that answers its probes and fails its tasks. No I/O, no own clock."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from adapter_api import Error
from orchestrator.config.settings import BreakerSettings


class BreakerState(StrEnum):
    CLOSED = "closed"
    """Work flows."""
    OPEN = "open"
    """No work until the time is up."""
    HALF_OPEN = "half_open"
    """One task is let through to find out."""


NOT_THE_REPLICAS_FAULT = frozenset({
    "invalid_request", "context_length_exceeded", "model_not_found", "unsupported", "job_conflict",  # the task's
    "overloaded", "not_ready",  # an engine that says so is well; routing waits for it
    "closed",  # ours
})  # fmt: skip


def blames_the_replica(error: Error) -> bool:
    """Return whether an error says that the replica is ill: not the task, not its deadline, not a full queue."""
    if error.code == "deadline_exceeded":
        return error.stage not in ("total", "queue")
    return error.code not in NOT_THE_REPLICAS_FAULT


class Breaker:
    """Counts failures in a row. While half open one trial runs at a time, and only the trial decides: tasks from before
    the breaker opened, which end late, neither close it nor open it for longer."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._openings = 0
        self._open_until: float | None = None
        self._trying = False
        self.reason = ""
        """Why it is open; empty when closed."""

    @property
    def state(self) -> BreakerState:
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._open_until else BreakerState.HALF_OPEN

    @property
    def opens_for_s(self) -> float:
        """Seconds until a trial is let through; 0 when work may go now."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    @property
    def allows(self) -> bool:
        """Whether a task may go to the replica now."""
        state = self.state
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self._trying)

    def begin(self) -> bool:
        """Count a task in; returns whether it is the trial. Say `trial_over` when that ends, however it ends."""
        if self.state is not BreakerState.HALF_OPEN or self._trying:
            return False
        self._trying = True
        return True

    def trial_over(self) -> None:
        """Let the next trial through, if there is to be one: the last may have ended without a verdict."""
        self._trying = False

    def succeeded(self, *, trial: bool = False) -> None:
        if self._open_until is not None and not trial:
            return
        self._failures = self._openings = 0
        self._open_until = None
        self.reason = ""

    def failed(self, reason: str, *, trial: bool = False) -> None:
        self._failures += 1
        if trial or (self._open_until is None and self._failures >= self._settings.failures):
            wait = min(self._settings.open_s * 2**self._openings, self._settings.max_open_s)
            self._openings = min(self._openings + 1, 16)
            self._open_until = self._clock() + wait
            self.reason = f"{self._failures} failures in a row, the last one {reason}"
