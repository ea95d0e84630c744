"""Heartbeats of an answer: in silence only, and never in the middle of something else."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from orchestrator.http.heartbeats import Heartbeats

pytestmark = pytest.mark.anyio
no_spec = "a part of the faces; that silence is filled is tested with each of them"

SOON_S = 0.005


class Line:
    """Where heartbeats go; the way there may be blocked."""

    def __init__(self) -> None:
        self.beats = 0
        self.beaten = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.failures: list[Exception] = []

    async def send(self) -> None:
        self.beaten.set()
        await self.free.wait()
        self.beats += 1


async def test_they_come_as_long_as_nothing_else_does() -> None:
    line = Line()
    heartbeats = Heartbeats(SOON_S, line.send, line.failures.append)
    with anyio.fail_after(5):
        for _ in range(3):
            await line.beaten.wait()
            line.beaten.clear()
    heartbeats.stop()

    assert line.beats == 3
    assert not line.failures


async def test_none_comes_while_something_else_is_being_sent() -> None:
    line, later = Line(), asyncio.Event()
    heartbeats = Heartbeats(SOON_S, line.send, line.failures.append)
    heartbeats.busy = True
    asyncio.get_running_loop().call_later(10 * SOON_S, later.set)
    await later.wait()
    assert line.beats == 0

    heartbeats.busy = False
    with anyio.fail_after(5):
        await line.beaten.wait()
    heartbeats.stop()


async def test_what_comes_meanwhile_waits_for_one_that_is_on_its_way() -> None:
    line = Line()
    line.free.clear()
    heartbeats = Heartbeats(SOON_S, line.send, line.failures.append)
    with anyio.fail_after(5):
        await line.beaten.wait()
        assert heartbeats.beating is not None
        asyncio.get_running_loop().call_soon(line.free.set)
        await heartbeats.sent()
    heartbeats.stop()

    assert line.beats == 1
    assert heartbeats.beating is None


async def test_one_that_breaks_is_told_and_is_the_last() -> None:
    line = Line()
    told = asyncio.Event()

    async def broken() -> None:
        raise RuntimeError("a bug")

    def tell(exc: Exception) -> None:
        line.failures.append(exc)
        heartbeats.stop()
        told.set()

    heartbeats = Heartbeats(SOON_S, broken, tell)
    with anyio.fail_after(5):
        await told.wait()

    assert [str(exc) for exc in line.failures] == ["a bug"]


async def test_one_on_its_way_ends_with_the_answer() -> None:
    line = Line()
    line.free.clear()
    heartbeats = Heartbeats(SOON_S, line.send, line.failures.append)
    with anyio.fail_after(5):
        await line.beaten.wait()
        heartbeats.stop()
        await heartbeats.sent()

    assert line.beats == 0
