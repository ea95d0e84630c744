"""Reading an adapter's generator so that a read can be interrupted from outside.

On asyncio an interruption cancels the task that reads, once, and takes that back when the read is over, as
`asyncio.timeout` does: an item that comes costs no cancel scope (about 2 µs each). Elsewhere (trio) a cancel scope
around each read does the same, more slowly.

What comes out of a read is told apart by whose affair it is. A cancellation of the reading task and the end of the
program are the reader's and pass through; whatever else an adapter raises, a cancellation that nobody asked for
included, is the adapter's and is returned as `Raised`.
"""

from __future__ import annotations

import asyncio
import types
import weakref
from asyncio import current_task
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from math import inf
from time import perf_counter
from typing import Any, Final

import anyio

from adapter_api.wheel import Slot, wheel

NOTHING: Final[Any] = object()
"""No read has been made."""
EXHAUSTED: Final[Any] = object()
"""The generator has no more items."""
INTERRUPTED: Final[Any] = object()
"""`interrupt`, or the expiry, ended the read."""


class Raised:
    """What the source raised, apart from what it yielded."""

    __slots__ = ("_exc",)

    def __init__(self, exc: BaseException) -> None:
        self._exc = exc

    def take(self) -> BaseException:
        """Return it, and hold it no longer: once.

        Readers have this as a local in frames that the traceback leads to (by itself, and since Python 3.12 by
        `f_back` of the source's frame too): a circle around all that the source has open.
        """
        exc = self._exc
        del self._exc
        return exc


class _Expiry(weakref.ref["SourceReader"]):
    """A reader's deadline. It keeps no reader alive: a stream that nobody reads any more must not live until then."""

    __slots__ = ()

    def time_is_up(self) -> None:
        reader = self()
        if reader is not None:
            reader._expire()


class _Begun:
    """An awaitable that was run up to its first wait; awaiting it goes on from there."""

    __slots__ = ("_awaitable", "_waits_for")

    def __init__(self, awaitable: Any, waits_for: Any) -> None:
        self._awaitable = awaitable
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as exc:
                    waits_for = self._awaitable.throw(exc)
                else:
                    waits_for = self._awaitable.send(sent)
        except StopIteration as stop:
            return stop.value


class SourceReader:
    """Reads one async iterator, one read at a time.

    Args:
        source: What to read. It must not hold a cancel scope or task group open across a `yield` (PEP 789).
        expires: `perf_counter` time at which a read that waits is interrupted; `None` when it never is.
        insist_s: How long a source may go on after an interruption before it is interrupted again.
    """

    __slots__ = (
        "__weakref__", "_anext", "_cancels_before", "_expires", "_expiry", "_insist_s", "_loop", "_open",
        "_our_cancels", "_scope", "_slot", "_source", "awaited_by", "interrupted", "over", "read_by",
    )  # fmt: skip

    def __init__(self, source: AsyncIterator[Any], *, expires: float | None = None, insist_s: float = inf) -> None:
        self._source = source
        self._anext: Callable[[], Awaitable[Any]] = source.__anext__
        self._expires = expires
        self._insist_s = insist_s
        self.over = False
        """Whether the source is an async generator that ran to its end; closing it does nothing more then."""
        self.interrupted = False
        """Whether `interrupt` was called, or the expiry did."""
        self.awaited_by: asyncio.Task[Any] | None = None
        """Who awaits what `step` returned."""
        self.read_by: int | None = None
        """Who called `read` last: the id of a task."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False
        """Whether `step` can be taken: the loop is known to be asyncio's, and nothing was interrupted."""
        self._scope: anyio.CancelScope | None = None
        self._cancels_before = 0
        self._our_cancels = 0
        self._expiry: _Expiry | None = None
        self._slot: Slot | None = None
        """Where the deadline stands."""

    def interrupt(self) -> None:
        """End the read that is waiting, or the next one; what it would have returned is lost. Twice is once."""
        self.interrupted, self._open = True, False
        if self._scope is not None:
            self._scope.cancel()
        elif self._our_cancels == 0:
            self._cancel_the_read()

    def expire_within(self, seconds: float) -> None:
        """Interrupt a read that waits when so much time has passed from now, if it does not expire before."""
        soon = perf_counter() + seconds
        self._expires = soon if self._expires is None else min(self._expires, soon)
        self._disarm()

    async def read(self) -> Any:
        """Return the next item, `EXHAUSTED`, `INTERRUPTED`, or what the source raised as `Raised`.

        Raises only what is the reader's own affair.
        """
        step = self.step()
        if step is None:
            return INTERRUPTED if self._loop is not None else await self._read_in_a_scope()
        try:
            item = await step
        except BaseException as exc:
            item = self.stepped(exc)
            if item is None:
                raise
            return item
        if self.interrupted:
            self.stepped()
        self.awaited_by = None
        return item

    def step(self) -> Awaitable[Any] | None:
        """Return the next step for the caller to await itself; `None`: use `read` instead, which knows why.

        Afterwards the caller calls `stepped`, or, when an item came and nothing was `interrupted`, only clears
        `awaited_by`. It is `read` spelt out, for a reader on asyncio to whom a call more per item is too much.
        """
        expires = self._expires
        if not (self._open or self._opened()) or (
            expires is not None and (self._slot is None or perf_counter() >= expires) and self._expired()
        ):
            return None
        task: Any = current_task(self._loop)
        self.awaited_by, self.read_by = task, id(task)
        self._cancels_before = task.cancelling()
        try:
            return self._anext()
        except BaseException as exc:
            return _raising(exc)

    def run_on(self) -> bool:
        """Return whether the source comes to its end without a wait. If not, the next `read` says what it came to.

        For the last step of a source that is expected to have nothing more to say: it costs no deadline.
        """
        if self.interrupted or type(self._source) is not types.AsyncGeneratorType:
            return False
        step: Any = self._anext()
        try:
            waits_for = step.send(None)
        except StopAsyncIteration:
            self.over = True
            return True
        except StopIteration as stop:
            item = stop.value
            self._anext = lambda: _said(item)
        except BaseException as exc:
            raised = exc
            self._anext = lambda: _raising(raised)
        else:
            begun = _Begun(step, waits_for)
            self._anext = lambda: begun
        return False

    def _opened(self) -> bool:
        """Find out which loop this is, at the first read; return whether `step` can be taken."""
        if self._loop is None and (loop := asyncio._get_running_loop()) is not None:
            self._loop, self._open = loop, not self.interrupted
        return self._open

    def stepped(self, exc: BaseException | None = None) -> Any:
        """Say that the step came to an item, or to `exc`; return what stands for `exc`: `None` if it is the reader's
        own affair and has to go on its way."""
        task, self.awaited_by = self.awaited_by, None
        ours, self._our_cancels = self._our_cancels, 0
        if task is not None:
            for _ in range(ours):
                task.uncancel()
        if exc is None:
            return None
        if isinstance(exc, StopAsyncIteration):
            return self._exhausted()
        cancelled = _cancels_of(task) > self._cancels_before
        if ours and not cancelled and _holds(exc, asyncio.CancelledError):
            return INTERRUPTED
        # `_cancels_before`: a reader that was cancelled before it began to read may hear of it only now.
        if is_the_readers(exc, task, cancelled=cancelled or self._cancels_before > 0):
            return None
        return Raised(exc)

    def forget(self) -> None:
        """Have no deadline any more. It is all that closing does to a source that is `over`."""
        if self._slot is not None:
            self._disarm()

    async def aclose(self, grace_s: float) -> bool:
        """Close the source: its `finally` blocks run, for `grace_s` at most. Returns whether it closed without raising.

        Raises only what is the affair of who calls.
        """
        self._disarm()
        close = getattr(self._source, "aclose", None)
        if close is None:
            return True
        task = current_task() if asyncio._get_running_loop() is not None else None
        before = _cancels_of(task)
        try:
            if self.over:
                await close()  # nothing left that could take time
            else:
                with anyio.move_on_after(grace_s, shield=True):
                    await close()
        except BaseException as exc:
            if is_the_readers(exc, task, cancelled=task is None or before > 0 or task.cancelling() > before):
                raise
            return False
        return True

    async def _read_in_a_scope(self) -> Any:
        self.read_by = anyio.get_current_task().id
        remaining = inf if self._expires is None else self._expires - perf_counter()
        if self.interrupted or remaining <= 0:
            return INTERRUPTED
        with anyio.CancelScope(deadline=anyio.current_time() + remaining) as self._scope:
            try:
                return await self._anext()
            except StopAsyncIteration:
                return self._exhausted()
            except BaseException as exc:
                if is_the_readers(exc, None, cancelled=True):
                    raise
                return Raised(exc)
            finally:
                self._scope = None
        return INTERRUPTED

    def _cancel_the_read(self) -> None:
        task = self.awaited_by
        if task is None:
            return
        if getattr(task, "_must_cancel", False):
            # Somebody else's cancel is on its way and does as well. A second one would take its message away, by which
            # anyio knows its own; but it may be meant for a scope within the source, which then goes on.
            asyncio.get_running_loop().call_soon(_Expiry(self).time_is_up)
            return
        # Not when the source itself interrupts: a cancel of the running task would hit whatever that awaits next.
        if task is not current_task(self._loop):
            self._our_cancels += 1
            task.cancel()
        if self._insist_s != inf:
            self._disarm()
            self._arm(self._insist_s)

    def _exhausted(self) -> Any:
        self.over = isinstance(self._source, types.AsyncGeneratorType)
        return EXHAUSTED

    def _expired(self) -> bool:
        assert self._expires is not None
        remaining = self._expires - perf_counter()
        if remaining <= 0:
            return True
        if self._slot is None:
            self._arm(remaining)
        return False

    def _arm(self, seconds: float) -> None:
        expiry = self._expiry
        if expiry is None:
            expiry = self._expiry = _Expiry(self)
        self._slot = wheel().after(seconds, expiry)

    def _disarm(self) -> None:
        if self._slot is not None:
            assert self._expiry is not None
            self._slot.discard(self._expiry)
            self._slot = None

    def _expire(self) -> None:
        self._slot = None
        self.interrupted, self._open = True, False
        self._cancel_the_read()


def is_the_readers(exc: BaseException, task: asyncio.Task[Any] | None, *, cancelled: bool) -> bool:
    """Return whether `exc`, which came out of an adapter, is the affair of the task that called it.

    Args:
        exc: What came.
        task: The asyncio task that called; `None` elsewhere.
        cancelled: Whether that task was cancelled meanwhile, as far as can be seen.
    """
    if _holds(exc, (KeyboardInterrupt, SystemExit)):
        return True
    if isinstance(exc, GeneratorExit):
        # Thrown into a coroutine that is being dropped, unless its own task runs: then the adapter has raised it.
        return not _runs(task)
    return cancelled and _holds(exc, _cancelled_class())


def _cancels_of(task: asyncio.Task[Any] | None) -> int:
    return 0 if task is None else task.cancelling()


def _cancelled_class() -> type[BaseException]:
    try:
        return anyio.get_cancelled_exc_class()
    except RuntimeError:
        return asyncio.CancelledError


def _runs(task: asyncio.Task[Any] | None) -> bool:
    try:
        return current_task() is task if task is not None else anyio.get_current_task() is not None
    except RuntimeError:
        return False


def _holds(exc: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    return isinstance(exc, kinds) or (isinstance(exc, BaseExceptionGroup) and exc.subgroup(kinds) is not None)


async def _raising(exc: BaseException) -> Any:
    raise exc


async def _said(item: Any) -> Any:
    return item
