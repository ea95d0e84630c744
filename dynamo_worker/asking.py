"""Whoever asked, who may leave at any moment; and how many are being answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, Self

from adapter_api import AdapterError

_UNWATCHED_S = 0.01
_LEAVING: set[asyncio.Task[None]] = set()
"""What is being stopped for those who left: the loop holds tasks weakly."""


class Context(Protocol):
    """What is used of Dynamo's context of a request."""

    def async_killed_or_stopped(self) -> asyncio.Future[bool]: ...

    def trace_headers(self) -> dict[str, str] | None: ...


class InFlight:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Event | None = None

    def enter(self) -> None:
        self.count += 1

    def leave(self) -> None:
        self.count -= 1
        if not self.count and self._idle is not None:
            self._idle.set()

    async def idle(self) -> None:
        """Return when nothing is being answered. For one waiter."""
        self._idle = asyncio.Event()
        if self.count:
            await self._idle.wait()


class Asker:
    """Who waits for one answer, as a context manager around the making of it.

    Dynamo does not close the answer of somebody who left: it forgets it, and Python closes it at some later time. So
    the work is stopped by the context's word, in a task of its own, and with that the request is over, whether anybody
    reads on or not. Whoever reads on is to end when `gone`.

    Dynamo's word costs a tenth of a millisecond to ask for, as much as a small inference takes. So it is asked for only
    when a request has lasted a little; it tells then also of who has left before. It is waited for by callbacks, not by
    a task: there may be thousands.

    Args:
        context: Of the request.
        in_flight: Where the request counts until it is over.
        stop: Ends the work in the engine and returns when it has ended; it is not to raise. Called once at most.
    """

    __slots__ = ("_context", "_in_flight", "_stop", "_stopped", "_timer", "gone")

    def __init__(self, context: Context, in_flight: InFlight, stop: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.gone = False
        """Whoever asked has left: nothing is to be told any more, and the work is being stopped."""
        self._context, self._in_flight, self._stop = context, in_flight, stop
        self._stopped: asyncio.Future[bool] | None = None

    def __enter__(self) -> Self:
        self._in_flight.enter()
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, self._watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> bool:
        if self.gone:
            return isinstance(exc, AdapterError)  # which nobody is there to hear; `_leave` does the rest
        self._timer.cancel()
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.remove_done_callback(self._left)
            stopped.cancel()
        self._in_flight.leave()
        return False

    def _watch(self) -> None:
        self._stopped = self._context.async_killed_or_stopped()
        self._stopped.add_done_callback(self._left)

    def _left(self, stopped: asyncio.Future[bool]) -> None:
        if self._stopped is None or stopped.cancelled():
            return  # the answer ended as the word came
        self.gone = True
        leaving = asyncio.get_running_loop().create_task(self._leave())
        _LEAVING.add(leaving)
        leaving.add_done_callback(_LEAVING.discard)

    async def _leave(self) -> None:
        try:
            await self._stop()
        finally:
            self._in_flight.leave()
