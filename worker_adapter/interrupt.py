"""Ctrl-C and SIGTERM as something to wait for, so that a task can be cancelled before the program ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from worker_adapter.exit_codes import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """While entered, the first signal is remembered and the second ends the process at once.

    Plain signal handlers rather than the event loop's own: the second one must also work while the loop is stuck, say
    in a write to a pipe that nobody reads.

    Args:
        before_exit: Called before the process ends at once.
    """

    def __init__(self, before_exit: Callable[[], None] = lambda: None) -> None:
        self.signal_name: str | None = None
        """Name of the signal that came, such as `SIGINT`; `None` while there was none."""
        self._before_exit = before_exit
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    async def wait(self) -> None:
        """Return when a signal has come. For one waiter, on asyncio."""
        self._event, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self.signal_name is None:
            await self._event.wait()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:
            self._before_exit()
            os._exit(ExitCode.CANCELLED)
        self.signal_name = signal.Signals(number).name
        if self._loop is not None and self._event is not None:
            self._loop.call_soon_threadsafe(self._event.set)
