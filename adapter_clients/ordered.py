"""Work on many items at once, bounded, with the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4
"""How many results may wait for one before them, for each item that is at work."""
_END: Any = object()


async def in_order(
    items: Iterable[Item] | AsyncIterable[Item], work: Callable[[Item], Awaitable[Result]], *, at_once: int
) -> AsyncGenerator[Result, None]:
    """Iterate over the results of `work`, in the order of `items`, as soon as each is there.

    An item is taken when there is room: at most `at_once` are at work, and one that takes long does not hold up those
    behind it, until too many results wait for it. Leaving early cancels what is at work.

    Raises:
        What `items` or `work` raise.
    """
    source = _each(items)
    line: deque[asyncio.Future[Result]] = deque()
    coming: asyncio.Future[Item] | None = None
    ended = False
    try:
        while True:
            while line and line[0].done():
                yield line.popleft().result()
            at_work = [each for each in line if not each.done()]
            if coming is None and not ended and len(at_work) < at_once and len(line) < at_once * _AHEAD:
                coming = asyncio.ensure_future(anext(source, _END))
            if coming is None and not line:
                return
            due: list[asyncio.Future[Any]] = [*at_work, *([coming] if coming else [])]
            await asyncio.wait(due, return_when=asyncio.FIRST_COMPLETED)
            if coming is not None and coming.done():
                item, coming = coming.result(), None
                if item is _END:
                    ended = True
                else:
                    line.append(asyncio.ensure_future(work(item)))
    finally:
        left = [each for each in (*line, coming) if each is not None]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await source.aclose()


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
