"""Tensors on the fake: what the real server cannot be brought to do at the right moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import anyio
import pytest

from adapter_api import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    ProtocolViolation,
    Sequence,
    Tensor,
    Unsupported,
)
from adapter_api.task import TraceHeaders
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.schema import Reply
from triton_adapter.testing import FakeTriton
from triton_adapter.testing.script import Raw
from triton_adapter.transports.base import StreamCall
from triton_adapter.transports.grpc import GrpcTransport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest

pytestmark = pytest.mark.anyio

TEXT = (Tensor.from_bytes_elements("text_input", [b"hi"]),)


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


async def test_a_model_that_does_not_stream_any_more_is_served_at_once(fake: FakeTriton) -> None:
    model = fake.model("m").signature("vllm", decoupled=True)
    async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
        with pytest.raises(Unsupported, match="ask for a stream"):
            await adapter.infer(InferRequest(model="m", inputs=TEXT))
        model.signature("vllm", decoupled=False)

        response = await adapter.infer(InferRequest(model="m", inputs=TEXT))

    assert response["text_output"].elements() == [
        b"hiHello there!"
    ]  # a single answer repeats the prompt unless told not to


class Unreachable:
    """A stream that finds nothing to connect to."""

    async def read(self) -> list[Reply]:
        raise ConnectFailed("nothing listens there")

    def cancel(self) -> None:
        return None


class AtSecondTry(GrpcTransport):
    tries = 0

    async def stream(  # type: ignore[override]
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()
    ) -> StreamCall:
        self.tries += 1
        if self.tries == 1:
            return Unreachable()
        return await super().stream(request, timeout_s=timeout_s, trace=trace)


async def test_a_stream_that_never_left_is_sent_again(fake: FakeTriton) -> None:
    fake.model("m").respond_with_text("one two")
    settings = TritonSettings(url=fake.grpc_url)
    transport = AtSecondTry(settings)
    async with TritonAdapter(settings, transport=transport) as adapter:
        response = await _first_of(adapter)(InferRequest(model="m", inputs=TEXT))
        busy = (await adapter.health()).capacity.in_flight

    assert response["text_output"].elements()
    assert (transport.tries, len(fake.requests), busy) == (2, 1, 0)


async def test_a_storm_of_cancelled_requests_of_one_answer_is_let_out_bit_by_bit(
    fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton_adapter.transports.cancel_limiter._WINDOW_S", 3600)
    model = fake.model("m").signature("vllm", decoupled=False).hold(after=0)
    settings = TritonSettings(url=fake.grpc_url, max_concurrent_cancels=3)
    async with TritonAdapter(settings) as adapter:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(adapter.infer, InferRequest(model="m", inputs=TEXT))
            await fake.until(lambda: model.held == 8)
            group.cancel_scope.cancel()
        await fake.until(lambda: model.cancels == 3)
        await adapter.health()
        by_then = model.cancels
    await fake.until(lambda: model.cancels == 8)

    assert by_then == 3, "the others wait for their turn, or for the end of the adapter"


async def test_a_stream_that_was_sent_is_not_sent_again(fake: FakeTriton) -> None:
    fake.model("m").respond_with_text("one two").cut(after=0)
    async with TritonAdapter(TritonSettings(url=fake.grpc_url, max_retries=20)) as adapter:
        with pytest.raises(ConnectionLost):
            await _first_of(adapter)(InferRequest(model="m", inputs=TEXT))

    assert len(fake.requests) == 1


async def test_waiting_for_a_sequences_turn_counts_against_the_deadline(fake: FakeTriton) -> None:
    fake.model("m").signature("vllm", decoupled=False).hold(after=0)
    async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter, anyio.create_task_group() as group:
        first = InferRequest(model="m", inputs=TEXT, sequence=Sequence(id=1, start=True))
        group.start_soon(adapter.infer, first)
        await fake.until(lambda: len(fake.requests) == 1)

        second = InferRequest(model="m", inputs=TEXT, sequence=Sequence(id=1), timeout_s=0.1)
        with anyio.fail_after(5), pytest.raises(DeadlineExceeded) as caught:
            await adapter.infer(second)

        assert caught.value.stage == "total"
        assert len(fake.requests) == 1, "it was never sent"
        assert (await adapter.health()).capacity.in_flight == 1
        group.cancel_scope.cancel()


async def test_a_server_that_says_nothing_about_a_model_does_not_hold_a_request_beyond_its_deadline(
    fake: FakeTriton,
) -> None:
    fake.model("m")
    settings = TritonSettings(url=fake.grpc_url, control_timeout_s=30)
    async with TritonAdapter(settings) as adapter:
        await adapter.health()
        fake.proxy.stall()
        for infer in (adapter.infer, _first_of(adapter)):
            with anyio.fail_after(5), pytest.raises(DeadlineExceeded):
                await infer(InferRequest(model="m", inputs=TEXT, timeout_s=0.1))


async def test_an_output_that_does_not_fill_its_shape_is_the_engines_fault(fake: FakeTriton) -> None:
    cut = v2.ModelInferResponse(model_name="m", raw_output_contents=[bytes(4)])
    cut.outputs.add(name="N", datatype="FP32", shape=[2])
    fake.model("m").signature("vllm", decoupled=False).respond_with_steps(Raw(cut.SerializeToString()))
    async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
        with pytest.raises(ProtocolViolation, match=r"'N': FP32 \[2\] takes 8 bytes, got 4"):
            await adapter.infer(InferRequest(model="m", inputs=TEXT))


def _first_of(adapter: TritonAdapter) -> Callable[[InferRequest], Awaitable[InferResponse]]:
    async def infer(request: InferRequest) -> InferResponse:
        async with adapter.infer_stream(request) as stream:
            return await anext(stream)

    return infer
