"""A closed adapter leaves no connection, whatever became of its tasks: not until the collector of cycles comes by."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, suppress

import anyio
import pytest

from adapter_api import End, Error, TaskRequest, Token, TokenStream
from tests.triton_adapter.ways import proxy_of, url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.testing import FakeTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3056-026")]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No collector, as in a host that freezes and tunes it: what a circle holds stays."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def to_its_end(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"])
    assert isinstance((await rest(adapter.submit(TaskRequest(model="m", prompt="x"))))[-1], End)


async def left_early(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
    async with aclosing(adapter.submit(TaskRequest(model="m", prompt="x"))) as stream:
        await until_token(stream)


async def left_to_the_close(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
    stream = adapter.submit(TaskRequest(model="m", prompt="x"))
    await until_token(stream)
    await adapter.aclose()
    await rest(stream)


async def cancelled(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
    stream = adapter.submit(TaskRequest(model="m", prompt="x", job_id="j"))
    await until_token(stream)
    await adapter.cancel("j")
    assert isinstance((await rest(stream))[-1], End)


async def with_its_reader_cancelled(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
    stream = adapter.submit(TaskRequest(model="m", prompt="x"))
    await until_token(stream)
    # Not in a task group of anyio, which is a circle itself and keeps what its tasks raised.
    reading = asyncio.create_task(rest(stream))
    await anyio.lowlevel.checkpoint()
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


async def failed(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).fail("it broke", after=1)
    assert isinstance((await rest(adapter.submit(TaskRequest(model="m", prompt="x"))))[-1], Error)


async def too_late(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
    stream = adapter.submit(TaskRequest(model="m", prompt="x", timeout_s=0.3))
    assert isinstance((await rest(stream))[-1], Error)


async def cut_off(adapter: TritonAdapter, fake: FakeTriton, way: Way) -> None:
    fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
    stream = adapter.submit(TaskRequest(model="m", prompt="x"))
    await until_token(stream)
    await anyio.to_thread.run_sync(proxy_of(fake, way).cut)
    assert isinstance((await rest(stream))[-1], Error)


async def until_token(stream: TokenStream) -> None:
    while not isinstance(await anext(stream), Token):
        pass


async def rest(stream: TokenStream) -> list[object]:
    return [event async for event in stream]


@pytest.mark.parametrize(
    "ending",
    [to_its_end, left_early, left_to_the_close, cancelled, with_its_reader_cancelled, failed, too_late, cut_off],
)
@pytest.mark.long
async def test_a_closed_adapter_has_no_connection_left_after_a_task(
    ending: Callable[[TritonAdapter, FakeTriton, Way], Awaitable[None]], way: Way, no_collector: None
) -> None:
    with FakeTriton() as fake:
        proxy = proxy_of(fake, way)
        async with TritonAdapter(TritonSettings(url=url_of(fake, way))) as adapter:
            await ending(adapter, fake, way)
            assert proxy.accepted
        del adapter
        with suppress(TimeoutError):
            await anyio.to_thread.run_sync(proxy.wait_until, lambda: not proxy.connections)
        assert proxy.connections == 0
