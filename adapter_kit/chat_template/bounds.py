"""What a chat template may do and make: steps, processor time, and the size of everything on the way.

The sandbox calls what is here at each step of a template. Bounded are the steps, the processor time of a render, and
the size of the prompt and of each value on the way. Not bounded is what a single step does inside Python before its
size is known, such as one `sort` or one `replace` on a text as large as the bounds allow: that ends, after seconds at
worst, and no other thread runs meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import thread_time
from typing import Any

STEPS = 500_000
CPU_S = 2.0
LARGEST = 1 << 24
"""Characters of a prompt, and characters or items of any value on the way."""
_LARGEST_NUMBER = 1 << 20
"""In arguments that a size could come from, as in `center(width)`."""
_MULTIPLIERS = frozenset({"indent", "replace", "join", "translate", "expandtabs"})
"""What makes of two texts one that can be as long as both multiplied."""
_NAMED_NUMBER = re.compile(r"\d{6,}")
_STEPS_PER_LOOK = 16
"""Steps from one look at the clock to the next: a look takes longer than most steps."""
_LONGEST_RANGE = 100_000
"""As the sandbox of jinja2 has it."""


class TooMuch(Exception):
    """The template does more, or makes more, than it may."""


class TakesLong(Exception):
    """What runs `at_once` takes longer than that: do it again where it keeps nobody waiting."""


class Meter:
    """Counts what a template does, in one render or in several that belong together."""

    __slots__ = ("_ends", "_hurried", "_left", "_looks_at", "_steps")

    def __init__(self, renders: int = 1) -> None:
        self._left = self._looks_at = self._steps = STEPS * renders
        hurry = _HURRY.get()
        self._hurried = hurry is not None
        self._ends = thread_time() + CPU_S if hurry is None else hurry

    def step(self, cost: int = 1) -> None:
        self._left -= cost
        if self._left >= self._looks_at:
            return
        if self._left < 0:
            raise TooMuch(f"it takes more than {self._steps:,} steps")
        self._looks_at = max(0, self._left - _STEPS_PER_LOOK)
        if thread_time() > self._ends:
            if self._hurried:
                raise TakesLong
            raise TooMuch(f"it computes for more than {CPU_S:g} s")


_HURRY: ContextVar[float | None] = ContextVar("hurry", default=None)
_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def at_once(cpu_s: float) -> Iterator[None]:
    """Let templates that run in here have `cpu_s` of this thread's processor time together, then raise `TakesLong`."""
    token = _HURRY.set(thread_time() + cpu_s)
    try:
        yield
    finally:
        _HURRY.reset(token)


@contextmanager
def metered_by(meter: Meter) -> Iterator[None]:
    """Let `meter` count what a template does in here."""
    token = _METER.set(meter)
    try:
        yield
    finally:
        _METER.reset(token)


def step(cost: int = 1) -> None:
    meter = _METER.get()
    if meter is not None:
        meter.step(cost)


def sized(value: Any) -> Any:
    """Return `value`, which was just made; small enough, and paid for."""
    if isinstance(value, str | list | tuple | dict):
        size = len(value)
        if size > LARGEST:
            raise TooMuch(f"it makes a value of more than {LARGEST:,} characters or items")
        step(1 + (size >> 6))
    else:
        step()
    return value


def weighed(value: Any) -> Any:
    """Return a container that was just made, paid for with all that it holds, as often as it holds it.

    Otherwise a list that holds another one twice, and is itself held twice, … would be of a size that no text has.
    """
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | tuple | dict):
            step(1 + len(each))
            waiting += each.values() if isinstance(each, dict) else each
        elif isinstance(each, str):
            step(len(each) >> 6)
    return value


def require_modest(arguments: Iterable[Any]) -> None:
    """Refuse arguments that could be the size of something enormous, as numbers or in a text's format."""
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > _LARGEST_NUMBER:
            raise TooMuch("it calls something with a number that is too large")


def require_no_product(name: str, arguments: Iterable[Any]) -> None:
    if name in _MULTIPLIERS:
        *_, second, first = 1, 1, *sorted(map(_size, arguments))
        if first * second > 4 * LARGEST:
            raise TooMuch("it puts a long text into another one too often")


def _size(argument: Any) -> int:
    """Return how long an argument is; of what is made while it is read, how long it may be at most."""
    if isinstance(argument, str | list | tuple | dict | range):
        return len(argument)
    return _LONGEST_RANGE if isinstance(argument, Iterator) else argument if isinstance(argument, int) else 1


def require_short_fields(layout: str, values: Any) -> None:
    """Refuse a layout with so many fields that long values in them make something enormous."""
    several = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else (values,)
    fields = layout.count("%") + layout.count("{")
    if fields * max((len(each) for each in several if isinstance(each, str)), default=1) > 4 * LARGEST:
        raise TooMuch("it puts a long text into another one too often")


def require_narrow_fields(layout: Any) -> None:
    if isinstance(layout, str) and _NAMED_NUMBER.search(layout):
        raise TooMuch("it lays a text out with a number that is too large")
