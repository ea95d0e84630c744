"""The deadlines of all calls of one event loop, on one timer of that loop.

    slot = wheel().after(2.5, entry)    `entry.time_is_up()` is called in 2.5 s, never early
    slot.discard(entry)                 unless it is taken out before

A timer of the event loop per deadline costs several microseconds, and most deadlines never come. Here one that does not
come costs two operations on a set. Deadlines are kept to the next 5 ms, to 50 ms from two seconds on, and to half a
second from a minute on, so that what is kept is bounded by the longest deadline and not by the number of calls.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Protocol

_FINE_S, _MIDDLE_S, _COARSE_S = 0.005, 0.05, 0.5
_FINE_BELOW_S, _MIDDLE_BELOW_S = 2.0, 60.0


class Due(Protocol):
    """What has a deadline."""

    def time_is_up(self) -> None:
        """The deadline is over. It is not to raise."""


Slot = set[Due]


class Wheel:
    """See above. To be used within its event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # What asyncio's own loops do for it, without a call of Python's.
        plain = type(loop).time is asyncio.BaseEventLoop.time
        self.now: Callable[[], float] = time.monotonic if plain else loop.time
        """The event loop's clock."""
        self._slots: dict[float, Slot] = {}
        self._order: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float, entry: Due) -> Slot:
        """Watch `entry`, which is kept alive meanwhile; to take it out, discard it from the set that is returned."""
        grain = _FINE_S if seconds < _FINE_BELOW_S else _MIDDLE_S if seconds < _MIDDLE_BELOW_S else _COARSE_S
        due = (int((self.now() + seconds) / grain) + 1) * grain
        slot = self._slots.get(due)
        if slot is None:
            slot = self._slots[due] = set()
            heapq.heappush(self._order, due)
            if self._order[0] == due:
                self._arm()
        slot.add(entry)
        return slot

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._order[0], self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        while self._order and self._order[0] <= now:
            slot = self._slots.pop(heapq.heappop(self._order))
            # One by one: whoever hears that its time is up may take others out.
            while slot:
                entry = slot.pop()
                try:
                    entry.time_is_up()
                except Exception as exc:
                    self._loop.call_exception_handler(
                        {"message": f"the deadline of {entry!r} failed", "exception": exc}
                    )
        if self._order and self._timer is None:
            self._arm()


_wheels: dict[asyncio.AbstractEventLoop, Wheel] = {}


def wheel() -> Wheel:
    """Return the wheel of the running event loop; raises `RuntimeError` where there is none of asyncio's."""
    loop = asyncio.get_running_loop()
    found = _wheels.get(loop)
    if found is None:
        for old in [old for old in list(_wheels) if old.is_closed()]:
            _wheels.pop(old, None)
        found = _wheels[loop] = Wheel(loop)
    return found
