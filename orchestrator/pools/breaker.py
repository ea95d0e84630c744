"""The circuit breaker: leaves alone for a while what fails its tasks. No I/O, no own clock.

A replica has one for itself and one for each model that failed there lately.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from orchestrator.config.settings import BreakerSettings


class BreakerState(StrEnum):
    CLOSED = "closed"
    """Work flows."""
    OPEN = "open"
    """No work until the time is up."""
    HALF_OPEN = "half_open"
    """One task is let through to find out."""


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
        self._ask_first = False
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
        """Whether a task may go there now."""
        if self._open_until is None:
            return True
        return self.state is BreakerState.HALF_OPEN and not self._trying and not self._ask_first

    @property
    def wants_question(self) -> bool:
        """Whether a question that costs no task is to be answered before the next trial; see `answered`."""
        return self._ask_first and self.state is BreakerState.HALF_OPEN

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to remember: closed, and no failure since the last success."""
        return self._open_until is None and self._failures == 0

    def answered(self) -> None:
        """Let a trial through: the engine, asked without a task, did not refuse us."""
        self._ask_first = False

    def begin(self) -> bool:
        """Count a task in; returns whether it is the trial. Say `trial_over` when that ends, however it ends.

        Also of one that goes there while it is open, for want of any other place: it finds out just as well.
        """
        if self._open_until is None or self._trying:
            return False
        self._trying = True
        return True

    def trial_over(self) -> None:
        """Let the next trial through, if there is to be one: the last may have ended without a verdict."""
        self._trying = False

    def succeeded(self, *, trial: bool = False) -> bool:
        """Count a success; returns whether that closed it."""
        if self._open_until is not None and not trial:
            return False
        was_open = self._open_until is not None
        self._failures = self._openings = 0
        self._open_until = None
        self._ask_first = False
        self.reason = ""
        return was_open

    def failed(self, reason: str, *, trial: bool = False, at_once: bool = False, ask_first: bool = False) -> bool:
        """Count a failure; returns whether that opened it, where tasks could go there before.

        Args:
            reason: What it was, in a word.
            trial: It was the trial.
            at_once: It is enough by itself.
            ask_first: A question that costs no task may show that it is over: no trial before that is `answered`.
        """
        before = self.state
        self._failures += 1
        enough = at_once or self._failures >= self._settings.failures
        if not (trial or (self._open_until is None and enough)):
            return False
        wait = min(self._settings.open_s * 2**self._openings, self._settings.max_open_s)
        self._openings = min(self._openings + 1, 16)
        self._open_until = self._clock() + wait
        self._ask_first = ask_first
        many = "1 failure" if self._failures == 1 else f"{self._failures} failures in a row"
        self.reason = f"{many}, the last one {reason}"
        return before is not BreakerState.OPEN
