"""An asynchronous client for scripts that are not: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapter_api import AdapterClosed, InvalidRequest

ClientT = TypeVar("ClientT", bound=AbstractAsyncContextManager[Any])
T = TypeVar("T")


class Blocking(Generic[ClientT]):
    """Base of a sync twin. Enter it with `with`; then `_call` runs the client's coroutines, from any thread.

    Any but one whose event loop runs: everything in that loop would stand still meanwhile.

    Args:
        make: Makes the asynchronous client, not yet open.
    """

    def __init__(self, make: Callable[[], ClientT]) -> None:
        self._make = make
        self._portals: Any = None
        self._portal: BlockingPortal | None = None
        self._client: ClientT | None = None
        self._entered: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        _refuse_in_a_loop(type(self).__name__)
        with self._lock:
            if self._portals is not None:
                raise AdapterClosed("this client was opened before: make a new one")
            client = self._make()
            self._portals = start_blocking_portal()
            portal = self._portals.__enter__()
            try:
                self._entered = portal.wrap_async_context_manager(client)
                self._entered.__enter__()
            except BaseException as exc:
                self._portals.__exit__(type(exc), exc, exc.__traceback__)
                raise
            self._portal, self._client = portal, client
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if self._portal is None:
                return
            self._portal = None
            try:
                self._entered.__exit__(exc_type, exc, traceback)
            finally:
                self._portals.__exit__(exc_type, exc, traceback)

    def close(self) -> None:
        """Close the client; closing twice does nothing."""
        self.__exit__(None, None, None)

    def _call(self, function: Callable[[ClientT], Awaitable[T]]) -> T:
        """Run a coroutine of the client and return what it returns. Ctrl-C in the waiting thread cancels it.

        Raises:
            InvalidRequest: An event loop runs in this thread.
        """
        _refuse_in_a_loop(type(self).__name__)
        return self._run(function)

    def _run(self, function: Callable[[ClientT], Awaitable[T]]) -> T:
        portal, client = self._opened()
        future = portal.start_task_soon(function, client)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, function: Callable[[ClientT], AsyncIterator[T]]) -> Iterator[T]:
        """Iterate an asynchronous iterator of the client; leaving early closes it, if it can be closed."""
        items: AsyncIterator[T] | None = None
        end = object()

        async def begin(client: ClientT) -> AsyncIterator[T]:
            return function(client)

        async def following(_: ClientT) -> Any:
            assert items is not None
            return await anext(items, end)

        async def close(_: ClientT) -> None:
            if items is not None and hasattr(items, "aclose"):
                with anyio.CancelScope(shield=True):
                    await items.aclose()

        items = self._call(begin)
        try:
            while (item := self._call(following)) is not end:
                yield item
        finally:
            if self._portal is not None:
                self._run(close)

    def _opened(self) -> tuple[BlockingPortal, ClientT]:
        portal, client = self._portal, self._client
        if portal is None or client is None:
            raise AdapterClosed("this client is not open: use it in `with`")
        return portal, client


def _refuse_in_a_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidRequest(
        f"{name} waits, and an event loop runs in this thread that would stand still: take {name.removeprefix('Sync')} "
        "and `await` (as notebooks can, too), or call it in a thread, as by `asyncio.to_thread`"
    )
