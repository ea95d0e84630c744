"""How many cancels go out at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

_WINDOW_S = 0.01


class Cancellable(Protocol):
    """A call that can be cancelled, whether or not it is over."""

    def cancel(self) -> None:
        """Return at once."""


class CancelLimiter:
    """Lets a bounded number of cancels out per hundredth of a second; the others follow in order.

    Thousands of stream resets at once have crashed servers before 2.59; a storm is spread over some milliseconds.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._sent = 0
        self._waiting: deque[Cancellable] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self, call: Cancellable) -> None:
        """Cancel the call now, or when its turn comes."""
        if self._sent < self._at_once and not self._waiting:
            self._sent += 1
            call.cancel()
        else:
            self._waiting.append(call)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WINDOW_S, self._next_window)

    def flush(self) -> None:
        """Cancel all that wait, at once: the connection goes anyway."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.popleft().cancel()

    def _next_window(self) -> None:
        self._timer = None
        self._sent = min(len(self._waiting), self._at_once)
        for _ in range(self._sent):
            self._waiting.popleft().cancel()
        if self._sent:
            self._timer = asyncio.get_running_loop().call_later(_WINDOW_S, self._next_window)
