"""Work for a client that is there: it is cancelled when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Protocol, Self

import anyio
from starlette.types import Receive

from orchestrator.http.problems import Refused

EXTENSION = "worker_adapter.presence"
"""Under this name in a scope's `extensions`, our own server gives the `Presence` of the request's `client`."""


class Presence(Protocol):
    """Knows whether a client is there, without anybody waiting for it to leave."""

    @property
    def has_message(self) -> bool:
        """Whether something of the request is there to be received at once."""

    def tell(self, on_gone: Callable[[], None]) -> None:
        """Have `on_gone` called, once, when the client leaves; now, if it has left."""

    def forget(self) -> None:
        """Call nobody any more."""


@cache
def _scope_class() -> type[anyio.CancelScope]:
    """Return what `anyio.CancelScope()` makes on asyncio: asked by its own name, anyio finds out each time which loop
    this is."""
    return type(anyio.CancelScope())


class WhileThere:
    """Cancels what runs in its block when the client is gone; leaving the block ends the watch.

        with WhileThere(request.receive):
            response = await work()

    The server tells when the client leaves, once the request has come whole. Where it does not, a task waits for that:
    one of asyncio's in place of a group, so that errors of the block stay as they are.

    Args:
        receive: Tells when the client is gone.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._scope = _scope_class()()
        self._failure: Exception | None = None
        self._presence: Presence | None = None
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._presence = getattr(self._receive, "presence", None)
        if self._presence is not None:
            self._presence.tell(self._scope.cancel)
        else:
            self._watching = asyncio.create_task(self._cancel_when_gone())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._presence is not None:
            self._presence.forget()
        if self._watching is not None:
            self._watching.cancel()
        cancelled = bool(self._scope.__exit__(exc_type, exc, traceback))
        if self._failure is not None:
            raise self._failure
        return cancelled

    def fail(self, exc: Exception) -> None:
        """Cancel the block, and raise `exc` at its end."""
        self._failure = exc
        self._scope.cancel()

    async def _cancel_when_gone(self) -> None:
        try:
            await until_gone(self._receive)
        except Exception as exc:  # a bug: it must not leave the client without an answer
            self._failure = exc
        self._scope.cancel()


async def until_gone(receive: Receive) -> None:
    while not await is_gone(receive):
        pass


async def is_gone(receive: Receive) -> bool:
    """Wait for something to come from the client; returns whether it is that the client is gone."""
    try:
        return bool((await receive())["type"] == "http.disconnect")
    except Refused:  # it declared a body that nobody reads, and sends too much or nothing of it
        return True
