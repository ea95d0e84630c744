"""Whoever asked, who may leave at any moment; and how many are being answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

Closing = Callable[[], Coroutine[Any, Any, object]]


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
    """Who waits for one answer, from `wait` to `end`.

    Dynamo does not close the answer of somebody who left: it forgets it, and Python closes it at some later time. So
    what is to happen then is done by the context's word alone, in a task of its own. That is begun by a callback, not
    by a task that waits: there may be thousands.
    """

    def __init__(self, context: Context, in_flight: InFlight) -> None:
        self.gone = False
        self.stop: Closing | None = None
        """Stops the work in the engine, once there is some."""
        self._in_flight, self._context = in_flight, context
        self._stopped: asyncio.Future[bool] | None = None
        self._leaving: asyncio.Task[None] | None = None  # the loop holds tasks weakly

    def wait(self, then: Closing) -> None:
        """Begin; `then` is called after `stop` when whoever asked has left."""
        self._in_flight.enter()
        self._stopped = self._context.async_killed_or_stopped()
        self._stopped.add_done_callback(lambda future: None if future.cancelled() else self._left(then))

    def end(self) -> None:
        """The answer has ended, in whatever way; may be called again."""
        if self._stopped is None:
            return
        stopped, self._stopped = self._stopped, None
        stopped.cancel()
        self._in_flight.leave()

    def _left(self, then: Closing) -> None:
        if self._stopped is not None:
            self.gone = True
            self._leaving = asyncio.get_running_loop().create_task(self._leave(then))

    async def _leave(self, then: Closing) -> None:
        if self.stop is not None:
            await self.stop()
        await then()
