"""Waiting for one answer together."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from adapter_api import AdapterClosed

Answer = TypeVar("Answer")


async def shared(answer: asyncio.Task[Answer]) -> Answer:
    """Return what a task comes to that others may wait for as well: whoever gives up leaves it running.

    Raises:
        AdapterClosed: The task was cancelled, which only closing the adapter does; that is no cancel of the waiter.
    """
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        waiter = asyncio.current_task()
        if answer.cancelled() and (waiter is None or not waiter.cancelling()):
            raise AdapterClosed("the adapter was closed during the call", retryable=True) from None
        raise
