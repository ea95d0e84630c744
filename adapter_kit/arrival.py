"""What the one reader of a call or an answer waits on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context


class Arrival:
    """A future, as far as a task needs one, that can let its task go on here and now, and serves for every wait.

    A future of asyncio's wakes its task in the next round of the event loop. Of a token that comes alone that round is
    a third of the cost: it asks the system for news that cannot be there yet. This one lets the socket's own callback
    step the task, once it has walked all that came.

    It has what asyncio and anyio ask of a future that is not asyncio's own class: `_asyncio_future_blocking`, `_loop`,
    `add_done_callback`, `result`, `cancel` and `done`. To be awaited by a task and by nothing else, one at a time.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_loop", "_waits")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._waits: tuple[Callable[[Arrival], object], Context] | None = None
        """What steps the task that waits, and in which context; `None` while none does."""
        self._cancelled: tuple[object, ...] | None = None
        """What a cancel says. Not the exception: with its own traceback it would keep the task's frames alive."""

    def go_on(self) -> None:
        """Step the task that waits. Only where no task is running: from a callback of the event loop."""
        waits, self._waits = self._waits, None
        if waits is not None:
            resume, context = waits
            try:
                context.run(resume, self)
            except BaseException as exc:
                # A reader that ends the program. Here uvloop would take it for a failure of the connection.
                self._loop.call_soon(_raise, exc)

    def go_on_soon(self) -> None:
        """Step the task that waits in the next round of the event loop."""
        waits, self._waits = self._waits, None
        if waits is not None:
            resume, context = waits
            self._loop.call_soon(resume, self, context=context)

    # -- asyncio's side -----------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Arrival, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def done(self) -> bool:
        return self._waits is None

    def add_done_callback(self, resume: Callable[[Arrival], object], *, context: Context) -> None:
        self._waits = resume, context

    def result(self) -> None:
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            raise asyncio.CancelledError(*cancelled)

    def cancel(self, msg: object = None) -> bool:
        if self._waits is None:
            return False
        self._cancelled = () if msg is None else (msg,)
        self.go_on_soon()
        return True


def _raise(exc: BaseException) -> None:
    raise exc
