"""Slots of a pool of connections: as many as there may be, handed on in turn, and none is lost."""

from __future__ import annotations

import asyncio

import pytest

from adapter_kit.http.connection import Connection
from adapter_kit.http.pool import Pool

pytestmark = pytest.mark.anyio
no_spec = "a small part behind requirements of the adapters"


async def never() -> Connection:
    raise AssertionError("no connection is to be made here")


def pool_of(limit: int) -> Pool:
    return Pool(never, limit=limit, keep_idle=1, keep_idle_s=1.0)


async def test_slots_go_to_those_who_wait_in_turn() -> None:
    pool, order = pool_of(1), list[int]()

    async def wait(number: int) -> None:
        await pool.wait()
        order.append(number)
        pool.leave()

    assert pool.enter()
    assert not pool.enter()
    assert pool.full
    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    pool.leave()
    assert not pool.enter()  # it was handed to the first of them
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert order == [0, 1, 2]
    assert pool.enter()


@pytest.mark.parametrize("handed", [False, True])
async def test_who_gives_up_loses_no_slot(handed: bool) -> None:
    pool = pool_of(1)
    assert pool.enter()
    gives_up, stays = (asyncio.create_task(pool.wait()) for _ in range(2))
    await asyncio.sleep(0)
    if handed:
        pool.leave()  # and in the same turn it is cancelled
        gives_up.cancel()
    else:
        gives_up.cancel()
        pool.leave()
    await asyncio.wait_for(stays, 5)
    assert gives_up.cancelled()
    assert pool.full
    pool.leave()
    assert not pool.full
