"""Heartbeats of one answer: sent when nothing else was for a while. One that is never silent pays next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from adapter_api.wheel import Slot, wheel


class Heartbeats:
    """Has a heartbeat sent whenever so long has passed since `since`, and nobody is `busy` sending.

    Args:
        every_s: The longest silence.
        send: Sends one.
        on_failure: Told what `send` raises, which is a bug.
    """

    __slots__ = ("_every_s", "_on_failure", "_send", "_slot", "beating", "busy", "since")

    def __init__(
        self, every_s: float, send: Callable[[], Awaitable[None]], on_failure: Callable[[Exception], None]
    ) -> None:
        self._every_s = every_s
        self._send: Callable[[], Awaitable[None]] | None = send
        self._on_failure = on_failure
        self.beating: asyncio.Task[None] | None = None
        """One that is on its way: nothing may come between its parts."""
        self.busy = False
        self.since = perf_counter()
        self._slot: Slot | None = wheel().after(every_s, self)

    def stop(self) -> None:
        """Send none any more, and let go of who would."""
        self._send = None
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None
        if self.beating is not None:
            self.beating.cancel()

    async def sent(self) -> None:
        """Wait until none is on its way."""
        if self.beating is not None:
            await asyncio.wait([self.beating])

    def time_is_up(self) -> None:
        """See whether it is: the wheel calls this when it may be."""
        self._slot = None
        left_s = self._every_s if self.busy else self.since + self._every_s - perf_counter()
        if left_s > 0:
            self._slot = wheel().after(left_s, self)
        elif self._send is not None:
            self.beating = asyncio.create_task(self._beat(self._send))

    async def _beat(self, send: Callable[[], Awaitable[None]]) -> None:
        try:
            if not self.busy:  # somebody may have begun since
                await send()
                self.since = perf_counter()
        except Exception as exc:
            self._on_failure(exc)
        finally:
            self.beating = None
        if self._send is not None:
            self._slot = wheel().after(self._every_s, self)
