"""Reading an adapter's generator so that a read can be interrupted from outside.

On asyncio the reader takes each step of the generator by hand: an item that is ready costs no trip through the event
loop and no cancel scope (about 2 µs each), and a read that waits is interrupted by cancelling the very future it waits
for, as `Task.cancel` does. While tokens flow there is a shorter way, `step`. Elsewhere (trio) a cancel scope around
each read does the same, more slowly.
"""

from __future__ import annotations

import asyncio
import types
import weakref
from asyncio import current_task
from collections.abc import AsyncIterator, Awaitable, Generator
from math import inf
from time import perf_counter
from typing import Any, Final

import anyio

EXHAUSTED: Final[Any] = object()
"""The generator has no more items."""
INTERRUPTED: Final[Any] = object()
"""`interrupt`, or the expiry, ended the read."""
PENDING: Final[Any] = object()
"""The generator has to wait: await `SourceReader.wait`."""


class SourceReader:
    """Reads one async iterator, one read at a time.

    Args:
        source: What to read. It must not hold a cancel scope or task group open across a `yield` (PEP 789).
        expires: `perf_counter` time at which a read that waits is interrupted.
    """

    def __init__(self, source: AsyncIterator[Any], *, expires: float = inf) -> None:
        self._source = source
        self._anext = source.__anext__
        self._expires = expires
        self.over = False
        """Whether the source is an async generator that ran to its end; closing it does nothing more then."""
        self.interrupted = False
        """Whether `interrupt` was called, or the expiry did."""
        self.awaited_by: asyncio.Task[Any] | None = None
        """Who awaits what `step` returned."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._by_hand: bool | None = None
        self._suspended: tuple[Generator[Any, Any, Any], Any] | None = None
        self._trap: Any = None
        self._scope: anyio.CancelScope | None = None
        self._cancels_before = 0
        self._cancelled_it = False
        self._timer: asyncio.TimerHandle | None = None

    def interrupt(self) -> None:
        """End the read that is waiting, or the next one; what it would have returned is lost."""
        self.interrupted = True
        if self._scope is not None:
            self._scope.cancel()
        elif self._trap is not None:
            self._trap.cancel()
        # Not when the source itself interrupts: a cancel of the running task would hit whatever that awaits next.
        elif self.awaited_by is not None and self.awaited_by is not current_task(self._loop):
            self._cancelled_it = True
            self.awaited_by.cancel()

    def expire_within(self, seconds: float) -> None:
        """Interrupt a read that waits when so much time has passed from now, if it does not expire before."""
        self._expires = min(self._expires, perf_counter() + seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def poll(self) -> Any:
        """Take one step and return the next item if it is ready, `EXHAUSTED`, `INTERRUPTED`, or `PENDING`.

        After `PENDING` the caller awaits `wait` at once. Raises what the source raises.
        """
        if self.interrupted or (self._expires != inf and perf_counter() >= self._expires):
            return INTERRUPTED
        if self._by_hand is None:
            self._loop = asyncio._get_running_loop()
            self._by_hand = self._loop is not None
        if not self._by_hand:
            return PENDING
        step = self._anext().__await__()
        try:
            trap = step.send(None)
        except StopIteration as ready:
            return ready.value
        except StopAsyncIteration:
            return self._exhausted()
        self._suspended = (step, trap)
        return PENDING

    def wait(self) -> Awaitable[Any]:
        """Return an awaitable of what the step that `poll` left pending comes to."""
        suspended, self._suspended = self._suspended, None
        return self._next_in_a_scope() if suspended is None else _resume(self, *suspended)

    def step(self) -> Awaitable[Any] | None:
        """Return the next step for the caller to await itself; `None`: use `poll` instead.

        Afterwards the caller calls `stepped`, or, when an item came and nothing was `interrupted`, only clears
        `awaited_by`. The short way for a reader on asyncio: half the price of `poll` and `wait` for an item that has to
        be waited for. An interruption cancels the reading task, and `stepped` takes that back, as `asyncio.timeout`
        does.
        """
        if self._loop is None or self.interrupted or (self._expires != inf and perf_counter() >= self._expires):
            return None
        task = self.awaited_by = current_task(self._loop)
        if task is None:
            return None
        self._cancels_before = task.cancelling()
        if self._timer is None and self._expires != inf:
            self._arm()
        return self._anext()

    def stepped(self, exc: BaseException | None = None) -> Any:
        """Say that the step came to an item, or to `exc`; return what stands for `exc`, which may be itself."""
        task, self.awaited_by = self.awaited_by, None
        if self._cancelled_it and task is not None:
            self._cancelled_it = False
            cancels = task.uncancel()
            # Ours unless the task itself was cancelled as well: that one must not be swallowed.
            if isinstance(exc, asyncio.CancelledError) and cancels <= self._cancels_before:
                return INTERRUPTED
        return self._exhausted() if isinstance(exc, StopAsyncIteration) else exc

    async def aclose(self) -> None:
        """Close the source: its `finally` blocks run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def _next_in_a_scope(self) -> Any:
        remaining = self._expires - perf_counter()
        with anyio.CancelScope(deadline=anyio.current_time() + remaining) as self._scope:
            try:
                return await self._anext()
            except StopAsyncIteration:
                return self._exhausted()
            finally:
                self._scope = None
        return INTERRUPTED

    def _exhausted(self) -> Any:
        self.over = isinstance(self._source, types.AsyncGeneratorType)
        return EXHAUSTED

    def _arm(self) -> None:
        # By weak reference: a stream that nobody reads any more must not live until its deadline.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, self._expires - perf_counter()), _expire, weakref.ref(self))


def _expire(reference: weakref.ref[SourceReader]) -> None:
    reader = reference()
    if reader is not None:
        reader.interrupt()


@types.coroutine
def _resume(reader: SourceReader, step: Generator[Any, Any, Any], trap: Any) -> Generator[Any, Any, Any]:
    """Drive one step of a source that has to wait, on asyncio, so that `SourceReader.interrupt` can end the wait."""
    task = current_task(reader._loop)
    cancels_before = task.cancelling() if task is not None else 0
    if reader._timer is None and reader._expires != inf:
        reader._arm()
    told = False
    try:
        while True:
            reader._trap = trap
            try:
                sent = yield trap
            except GeneratorExit:
                step.close()
                raise
            except BaseException as exc:
                reader._trap = None
                told = True
                trap = step.throw(exc)
            else:
                reader._trap = None
                # Interrupted between the future's completion and now, or during a bare yield: tell the source.
                if reader.interrupted and not told:
                    told = True
                    trap = step.throw(asyncio.CancelledError())
                else:
                    trap = step.send(sent)
    except StopIteration as ready:
        return ready.value
    except StopAsyncIteration:
        return reader._exhausted()
    except asyncio.CancelledError:
        # Ours unless the task itself was cancelled as well: that one must not be swallowed.
        if not reader.interrupted or (task is not None and task.cancelling() > cancels_before):
            raise
        return INTERRUPTED
    finally:
        reader._trap = None
