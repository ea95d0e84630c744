"""Work for a client that is there: it is cancelled when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import anyio
from starlette.types import Receive

from orchestrator.http.problems import Refused


class WhileThere:
    """Cancels what runs in its block when the client is gone; leaving the block ends the watch.

        with WhileThere(request.receive):
            response = await work()

    A task of asyncio's in place of a group: each request has one of these, and errors of the block stay as they are.

    Args:
        receive: Tells when the client is gone.
        watch: What finds that out by `receive`; returns when it is so.
    """

    def __init__(self, receive: Receive, watch: Callable[[Receive], Coroutine[Any, Any, None]] | None = None) -> None:
        self._receive = receive
        self._watch = watch or until_gone
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._watching = asyncio.create_task(self._cancel_when_gone())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._watching is not None
        self._watching.cancel()
        cancelled = bool(self._scope.__exit__(exc_type, exc, traceback))
        if self._failure is not None:
            raise self._failure
        return cancelled

    async def _cancel_when_gone(self) -> None:
        try:
            await self._watch(self._receive)
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
