"""Deadlines at the edges of a stream: between two attempts, and after the last word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from adapter_api import ConnectFailed, End, EngineFailed, Error, InferRequest, TaskRequest, Tensor
from adapter_api.task import TraceHeaders
from adapter_api.testing import collect
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.schema import Reply
from triton_adapter.testing import FakeTriton
from triton_adapter.transports.base import StreamCall
from triton_adapter.transports.grpc import GrpcTransport
from triton_adapter.wire.request import WireRequest

pytestmark = pytest.mark.anyio

TOTAL_S = 0.3
"""Shorter than the patience with which a stream is settled, so that it runs out in there."""


class LingeringCall:
    """Passes the replies of another call on, and does not end after the last of them until it is cancelled."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._open: asyncio.Future[list[Reply]] | None = None

    async def read(self) -> list[Reply]:
        replies = [] if self._open else await self._call.read()
        if replies:
            return replies
        self._open = asyncio.get_running_loop().create_future()
        return await self._open

    def cancel(self) -> None:
        if self._open is not None:
            self._open.cancel()
        self._call.cancel()


class LingeringTransport(GrpcTransport):
    async def stream(  # type: ignore[override]
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()
    ) -> StreamCall:
        return LingeringCall(await super().stream(request, timeout_s=timeout_s, trace=trace))


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


@pytest.fixture
async def lingering(fake: FakeTriton) -> AsyncIterator[TritonAdapter]:
    settings = TritonSettings(url=fake.grpc_url, timeout_s=TOTAL_S)
    async with TritonAdapter(settings, transport=LingeringTransport(settings)) as adapter:
        assert (await adapter.health()).live  # so that no task's time goes into connecting
        yield adapter


async def test_a_deadline_that_runs_out_after_the_last_word_does_not_undo_it(
    fake: FakeTriton, lingering: TritonAdapter
) -> None:
    fake.model("m").respond_with_text("all of it")

    events = await collect(lingering.submit(TaskRequest(model="m", prompt="hi")))

    assert isinstance(events[-1], End), events


async def test_nor_does_it_hide_the_engines_error(fake: FakeTriton, lingering: TritonAdapter) -> None:
    fake.model("m").respond_with_text("all of it").fail("out of luck", after=1)

    events = await collect(lingering.submit(TaskRequest(model="m", prompt="hi")))

    assert isinstance(events[-1], Error)
    assert (events[-1].code, "out of luck" in events[-1].message) == ("engine_failed", True)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_tensor_streams_deadline_after_the_last_word_is_no_cancel(
    fake: FakeTriton, lingering: TritonAdapter, fails: bool
) -> None:
    model = fake.model("m").respond_with_text("all of it")
    if fails:
        model.fail("out of luck", after=1)
    inputs = (Tensor.from_bytes_elements("text_input", [b"hi"]),)
    stream = lingering.infer_stream(InferRequest(model="m", inputs=inputs))

    async with stream:
        response = await anext(stream)
        with pytest.raises(EngineFailed if fails else StopAsyncIteration):
            await anext(stream)

    assert response["text_output"].elements()


class SilentAtSecondTry(GrpcTransport):
    """Finds nothing to connect to, then an engine that says nothing."""

    tries = 0

    async def stream(  # type: ignore[override]
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()
    ) -> StreamCall:
        self.tries += 1
        return Unreachable() if self.tries == 1 else Silent()


class Unreachable:
    async def read(self) -> list[Reply]:
        raise ConnectFailed("nothing listens there")

    def cancel(self) -> None:
        return None


class Silent:
    def __init__(self) -> None:
        self._reading = asyncio.get_running_loop().create_future()

    async def read(self) -> list[Reply]:
        replies: list[Reply] = await self._reading
        return replies

    def cancel(self) -> None:
        self._reading.cancel()


async def test_a_deadline_that_runs_out_between_two_attempts_is_not_forgotten(fake: FakeTriton) -> None:
    fake.model("m")
    # Shorter than the shortest pause between two attempts.
    settings = TritonSettings(url=fake.grpc_url, first_token_timeout_s=0.001, inter_token_timeout_s=0.001)
    async with TritonAdapter(settings, transport=SilentAtSecondTry(settings)) as adapter:
        with anyio.move_on_after(5) as patience:
            events = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert not patience.cancel_called
    assert isinstance(events[-1], Error)
    assert (events[-1].code, events[-1].stage) == ("deadline_exceeded", "first_token")
