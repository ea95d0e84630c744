"""The deadlines of all calls of a connection on one timer."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

CallT = TypeVar("CallT")

_GRAINS = ((2.0, 0.005), (60.0, 0.1))
_COARSEST_S = 1.0


class Deadlines(Generic[CallT]):
    """Calls by when their time is up: to the next 5 ms, or 100 ms beyond two seconds, or a second beyond a minute.

    A call that ends in time costs two set operations and no timer. The number of slots kept is bounded by the longest
    deadline, not by the number of calls.

    Args:
        expire: Called with each call whose time is up; never early.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[CallT], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._slots: dict[float, set[CallT]] = {}
        self._order: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: CallT, seconds: float) -> set[CallT]:
        """Watch a call; to take it out, discard it from the set that is returned."""
        grain = next((grain for below, grain in _GRAINS if seconds < below), _COARSEST_S)
        due = (int((self._loop.time() + seconds) / grain) + 1) * grain
        slot = self._slots.get(due)
        if slot is None:
            slot = self._slots[due] = set()
            heapq.heappush(self._order, due)
            if self._order[0] == due:
                self._arm()
        slot.add(call)
        return slot

    def stop(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()
        self._order.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._order[0], self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        try:
            while self._order and self._order[0] <= now:
                for call in self._slots.pop(heapq.heappop(self._order)):
                    self._expire(call)
        finally:
            if self._order and self._timer is None:
                self._arm()
