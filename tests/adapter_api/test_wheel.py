"""Deadlines on one timer: never early, soon after, and gone once they are taken out."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from adapter_api import wheel as wheels
from adapter_api.wheel import Wheel, wheel

no_spec = "the contract's own part of ORCH-3056's deadlines, which are tested with a stream and an engine"


class Clock:
    """An event loop as far as a wheel needs one, whose time is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Any]] = []
        self.said: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Any:
        timer = (when, callback)
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                clock.timers.remove(timer)

        return Handle()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.said.append(context)

    def advance_to(self, now: float) -> None:
        while self.timers and min(self.timers, key=lambda timer: timer[0])[0] <= now:
            due = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(due)
            self.now = due[0]
            due[1]()
        self.now = now


class Entry:
    def __init__(self, clock: Clock, error: Exception | None = None) -> None:
        self._clock, self._error = clock, error
        self.at: list[float] = []

    def time_is_up(self) -> None:
        self.at.append(self._clock.now)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("seconds, late", [
    (0.0, 0.005), (0.001, 0.005), (0.5, 0.005), (1.9, 0.005), (2.0, 0.05), (30.0, 0.05), (60.0, 0.5), (7200.0, 0.5),
])  # fmt: skip
def test_a_deadline_is_heard_of_once_never_early_and_soon_after(seconds: float, late: float) -> None:
    clock = Clock()
    entry = Entry(clock)

    Wheel(clock).after(seconds, entry)  # type: ignore[arg-type]
    clock.advance_to(clock.now + seconds + 10)

    assert len(entry.at) == 1
    assert 1000 + seconds <= entry.at[0] <= 1000 + seconds + late + 1e-9


def test_deadlines_come_in_their_order_on_one_timer_whatever_the_order_in_which_they_were_set() -> None:
    clock = Clock()
    one = Wheel(clock)  # type: ignore[arg-type]
    entries = {seconds: Entry(clock) for seconds in (5.0, 0.1, 100.0, 1.0)}
    for seconds, entry in entries.items():
        one.after(seconds, entry)

    assert len(clock.timers) == 1
    clock.advance_to(1200.0)

    assert sorted(entries, key=lambda seconds: entries[seconds].at) == [0.1, 1.0, 5.0, 100.0]
    assert clock.timers == []


def test_one_that_was_taken_out_is_not_called_also_by_another_whose_time_is_up_at_once() -> None:
    clock = Clock()
    one = Wheel(clock)  # type: ignore[arg-type]
    others = [Entry(clock) for _ in range(20)]
    slots = [one.after(0.5, other) for other in others]

    class TakesOut:
        def time_is_up(self) -> None:
            for slot, other in zip(slots, others, strict=True):
                slot.discard(other)

    one.after(0.1, TakesOut())
    clock.advance_to(1010.0)

    assert [other.at for other in others] == [[]] * 20


def test_one_that_fails_does_not_keep_the_others_from_theirs_and_is_told_of() -> None:
    clock = Clock()
    one = Wheel(clock)  # type: ignore[arg-type]
    failing, well = Entry(clock, ValueError("no")), Entry(clock)
    one.after(0.1, failing)
    one.after(0.1, well)
    one.after(0.2, later := Entry(clock))

    clock.advance_to(1010.0)

    assert len(well.at) == len(later.at) == 1
    assert [str(said["exception"]) for said in clock.said] == ["no"]


def test_thousands_of_deadlines_that_never_come_are_one_timer_and_few_slots() -> None:
    clock = Clock()
    one = Wheel(clock)  # type: ignore[arg-type]
    for _ in range(5000):
        one.after(30.0, entry := Entry(clock)).discard(entry)
        clock.now += 0.001

    assert len(clock.timers) == 1
    assert len(one._slots) <= 5 / 0.05 + 2


def test_each_event_loop_has_one_wheel_and_none_is_kept_for_a_loop_that_is_closed() -> None:
    async def mine() -> tuple[Wheel, Wheel]:
        return wheel(), wheel()

    first, same = asyncio.run(mine())
    gone = weakref.ref(first)
    second, _ = asyncio.run(mine())

    assert first is same
    assert second is not first
    assert all(not loop.is_closed() or found is second for loop, found in wheels._wheels.items())
    del first, same
    gc.collect()
    assert gone() is None


def test_outside_an_event_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError):
        wheel()
