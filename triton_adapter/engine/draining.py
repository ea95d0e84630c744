"""Calls that outlive their reader: cancelling those of some models would not stop the engine, only hide it."""

from __future__ import annotations

import asyncio

from triton_adapter.schema import Reply
from triton_adapter.transports.base import StreamCall, has_settled


class Drainable:
    """A `StreamCall` whose reading can be given up, by `interrupt` or by cancelling the reader, and taken up again.

    A transport's own call is cancelled with its reader. This costs a task per read, so it is for models alone whose
    cancel does not reach what computes.
    """

    __slots__ = ("_call", "_reading", "_waiting")

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._reading: asyncio.Task[list[Reply]] | None = None
        self._waiting: asyncio.Future[list[Reply]] | None = None

    async def read(self) -> list[Reply]:
        """Return the next replies; what an interrupted read would have returned comes first."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._call.read())
            # Seen here, so that asyncio does not complain when nobody asks any more.
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._waiting = asyncio.shield(self._reading)
        try:
            replies = await self._waiting
        finally:
            self._waiting = None
            if self._reading.done():
                self._reading = None
        return replies

    @property
    def settled(self) -> bool:
        """Whether the call ended in order, with nothing left to read."""
        return self._reading is None and has_settled(self._call)

    def interrupt(self) -> None:
        """End the read that waits with `CancelledError`; the call goes on."""
        if self._waiting is not None:
            self._waiting.cancel()

    def cancel(self) -> None:
        """Cancel the call."""
        self._call.cancel()


def give_up(call: StreamCall) -> None:
    """End the read that waits, and with it the call unless that can be drained."""
    if isinstance(call, Drainable):
        call.interrupt()
    else:
        call.cancel()
