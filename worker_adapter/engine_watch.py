"""Tells when the engine that a host brought along ends by itself: it is nobody else's to look after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

_CHECK_S = 0.3


class Watched(Protocol):
    @property
    def is_running(self) -> bool: ...

    def log_tail(self) -> str:
        """Return the last lines of what it wrote."""


@asynccontextmanager
async def watching(engine: Watched, on_end: Callable[[str, str], None]) -> AsyncIterator[None]:
    """Watch an engine while the block runs.

    Args:
        engine: One that runs.
        on_end: Called once if it ends in the block, with a sentence that says so and what to do, and with the last
            lines of its log.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, engine, on_end)
        try:
            yield
        except Exception as exc:  # raised below: inside, the group would wrap it
            failure = exc
        finally:
            group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _watch(engine: Watched, on_end: Callable[[str, str], None]) -> None:
    while engine.is_running:  # noqa: ASYNC110 - an engine has no event for its end
        await anyio.sleep(_CHECK_S)
    tail = await anyio.to_thread.run_sync(engine.log_tail, abandon_on_cancel=True)
    on_end("the embedded engine ended by itself, and its models are gone: start this host again to have it back", tail)
