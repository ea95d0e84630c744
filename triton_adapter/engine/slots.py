"""How much work the engine has from us, including what was cancelled but not let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from adapter_api import AdapterError
from triton_adapter.transports.base import StreamCall


class Slots:
    """Counts calls under way. A cancelled call that the engine goes on with is drained: read to its end and thrown
    away, so that its slot counts as busy exactly as long as the engine works on it, `drain_timeout_s` at most."""

    def __init__(self, *, drain_timeout_s: float) -> None:
        self._drain_timeout_s = drain_timeout_s
        self._running = 0
        self._draining: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Calls in the engine now."""
        return self._running + len(self._draining)

    @property
    def draining(self) -> int:
        """Those of them that nobody waits for any more."""
        return len(self._draining)

    def enter(self) -> None:
        """Count a call that begins."""
        self._running += 1

    def leave(self) -> None:
        """Count a call that ended."""
        self._running -= 1

    def drain(self, call: StreamCall, stop: Callable[[], Awaitable[None]] | None = None) -> None:
        """Follow a call that nobody reads to its end; `stop` asks the engine to make it short."""
        self.count(self._drain(call, stop))

    def follow(self, answer: asyncio.Task[Any]) -> None:
        """Count a call of one answer that nobody waits for any more until it comes."""
        self.count(self._follow(answer))

    def count(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what an abandoned call leaves to be done, and count it until it is; `work` has to end by itself."""
        task = asyncio.get_running_loop().create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def aclose(self) -> None:
        """Cancel what is still draining."""
        tasks = list(self._draining)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, call: StreamCall, stop: Callable[[], Awaitable[None]] | None) -> None:
        try:
            async with asyncio.timeout(self._drain_timeout_s):
                if stop is not None:
                    await stop()
                while await call.read():
                    pass
        except (AdapterError, TimeoutError):
            pass  # either way the slot is free, or no longer worth counting
        finally:
            call.cancel()

    async def _follow(self, answer: asyncio.Task[Any]) -> None:
        try:
            await asyncio.wait([answer], timeout=self._drain_timeout_s)
        finally:
            answer.cancel()
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen: there is nobody left to tell
