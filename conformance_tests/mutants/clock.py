"""An event loop that never waits: when nothing is ready, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Looks at its files without waiting and passes the time instead, as far as the loop would have waited."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # No timer at all: whatever is waited for comes from another thread.
            return super().select()
        ready = super().select(0)
        if not ready:
            self.passed_s += max(timeout, 0.0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop for what is in this process only: a wait for anything else is over before it has come.

    A check that hangs costs no time in it, and what it does is the same on every run, however busy the machine is.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_s


def jumping() -> dict[str, Any]:
    """Return the `backend_options` for a `JumpingLoop`."""
    return {"loop_factory": JumpingLoop}
