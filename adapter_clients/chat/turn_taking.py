"""Who speaks in a session: one question at a time, the next when the answer before it is over."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Protocol

import anyio

from adapter_api import DeadlineExceeded, InvalidRequest


class Speaker(Protocol):
    """An answer that is being read."""

    @property
    def waits_for(self) -> int | None:
        """The task without which it does not go on: its reader's, while the reader does something else."""
        ...


class Floor:
    """Is given to one speaker at a time, in the order in which they asked for it.

    A speaker that nobody holds any more, as when a loop was left, has given it back.
    """

    def __init__(self) -> None:
        self._speaker: weakref.ref[Speaker] | None = None
        self._waiting: deque[anyio.Event] = deque()
        self._called = False
        """Whether it was given to one who waited, and has not spoken yet."""

    @property
    def taken(self) -> bool:
        """Whether somebody speaks or waits."""
        return self._current() is not None or self._called or bool(self._waiting)

    async def take(self, speaker: Speaker, *, timeout_s: float) -> None:
        """Wait for the floor.

        Raises:
            InvalidRequest: It would wait for ever: for an answer that the same task has stopped reading.
            DeadlineExceeded: It was not free within `timeout_s`.
        """
        current = self._current()
        if current is not None and current.waits_for == anyio.get_current_task().id:
            raise InvalidRequest(
                "an answer of this session is not read to its end: read on, or leave it by `async with`, or close it "
                "with `aclose()`, before you ask again; or ask in another `session`"
            )
        if self.taken:
            await self._wait(timeout_s)
        self._speaker = weakref.ref(speaker, self._lost)

    def give(self, speaker: Speaker) -> None:
        """Give the floor back; nothing happens when `speaker` does not have it."""
        if self._speaker is not None and self._speaker() is speaker:
            self._lost(self._speaker)

    async def _wait(self, timeout_s: float) -> None:
        called = anyio.Event()
        self._waiting.append(called)
        try:
            with anyio.fail_after(timeout_s):
                await called.wait()
        except BaseException as exc:
            if called.is_set():
                self._called = False
                self._call_next()  # it was given to us, and we go
            else:
                self._waiting.remove(called)
            if not isinstance(exc, TimeoutError):
                raise
            raise DeadlineExceeded(
                f"an earlier answer of this session did not end within {timeout_s:g} s", stage="queue"
            ) from None
        self._called = False

    def _current(self) -> Speaker | None:
        return None if self._speaker is None else self._speaker()

    def _lost(self, speaker: weakref.ref[Speaker]) -> None:
        if self._speaker is speaker:
            self._speaker = None
            self._call_next()

    def _call_next(self) -> None:
        if self._waiting:
            self._called = True
            self._waiting.popleft().set()
