"""Results in order, of work on many items at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapter_clients.ordered import in_order

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3069-014")]


class Work:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self._ends: dict[int, asyncio.Event] = {}

    def end(self, *items: int) -> None:
        for item in items:
            self._ends.setdefault(item, asyncio.Event()).set()

    async def __call__(self, item: int) -> int:
        self.begun.append(item)
        try:
            await self._ends.setdefault(item, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        return -item


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_one_that_takes_long_does_not_hold_up_those_behind_it_until_too_many_wait() -> None:
    work = Work()
    work.end(*range(1, 1000))
    results = in_order(range(1000), work, at_once=2)
    first = asyncio.ensure_future(anext(results))
    await settled()

    assert work.begun == list(range(8))
    assert not first.done()
    work.end(0)
    assert [await first, *[each async for each in results]] == [-item for item in range(1000)]


async def test_no_more_are_at_work_than_may_be() -> None:
    work = Work()
    results = in_order(range(100), work, at_once=3)
    first = asyncio.ensure_future(anext(results))
    await settled()
    assert work.begun == [0, 1, 2]

    work.end(1)
    await settled()
    assert work.begun == [0, 1, 2, 3]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert sorted(work.cancelled) == [0, 2, 3]


async def test_a_result_does_not_wait_for_the_next_item_to_come() -> None:
    work, more = Work(), asyncio.Event()
    work.end(0, 1)

    async def camera() -> AsyncIterator[int]:
        yield 0
        await more.wait()
        yield 1

    results = in_order(camera(), work, at_once=8)
    async with asyncio.timeout(10):
        assert await anext(results) == 0
        more.set()
        assert [each async for each in results] == [-1]


async def test_leaving_between_two_results_cancels_what_is_at_work() -> None:
    work = Work()
    work.end(0)
    results = in_order(range(9), work, at_once=4)
    assert await anext(results) == 0
    await settled()
    await results.aclose()

    assert sorted(work.cancelled) == sorted(set(work.begun) - {0})


async def test_what_the_items_or_the_work_raise_ends_it() -> None:
    work = Work()

    def broken() -> AsyncIterator[int]:
        raise ValueError("no more")

    async def fails(item: int) -> int:
        raise LookupError(item)

    async def items() -> AsyncIterator[int]:
        yield 0
        broken()

    with pytest.raises(ValueError, match="no more"):
        _ = [each async for each in in_order(items(), work, at_once=2)]
    assert work.cancelled == [0]
    with pytest.raises(LookupError):
        _ = [each async for each in in_order([1], fails, at_once=2)]
    assert [each async for each in in_order([], work, at_once=2)] == []
