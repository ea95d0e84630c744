"""What every transport does, and what only the one over grpcio can be shown."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import anyio
import grpc
import grpc.aio
import pytest

from adapter_api import AdapterClosed, AdapterError, ConnectFailed, DeadlineExceeded, HealthState, InferRequest, Tensor
from tests.triton_adapter.lab import loaded, tensor
from tests.triton_adapter.ways import live_over_grpc, url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.transports.base import Transport
from triton_adapter.transports.choosing import make_transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import SERVER_LIVE, SERVER_METADATA

pytestmark = pytest.mark.anyio

SCHEMES = {"grpc": "grpc", "http": "http+v2"}
X, Y = tensor("X", "TYPE_FP32", 1), tensor("Y", "TYPE_FP32", 1)
WAITS = """
def execute(self, requests):
    import time
    while not any(request.is_cancelled() for request in requests):
        time.sleep(0.005)
    return [answer(Y=value(request, "X")) for request in requests]
"""
TEXT_IN, TEXT_OUT = TensorSpec("text_input", "BYTES", (1,)), TensorSpec("text_output", "BYTES", (-1,))
SLOW = ModelSchema("slow", {"text_input": TEXT_IN}, {"text_output": TEXT_OUT}, decoupled=True)
ENDLESS = WireRequest(
    "slow", (Tensor.from_bytes_elements("text_input", [b"x"]),), parameters={"hang_after": 1}, schema=SLOW
)


def transport_to(url: str) -> Transport:
    return make_transport(TritonSettings(url=url))


@pytest.mark.live
async def test_a_control_call_is_answered(triton: EmbeddedTriton, way: Way) -> None:
    transport = transport_to(url_of(triton, way))

    answer = await transport.control(SERVER_METADATA, v2.ServerMetadataRequest(), timeout_s=5)
    await transport.aclose()

    assert answer.version == triton.version


@pytest.mark.live
async def test_a_frozen_server_does_not_hold_a_control_call_beyond_its_time(way: Way) -> None:
    with EmbeddedTriton(model_control_mode="explicit") as server:
        transport = transport_to(url_of(server, way))
        await transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=5)
        server.pause()
        try:
            with anyio.fail_after(5), pytest.raises(DeadlineExceeded) as caught:
                await transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=0.2, stage="health")
        finally:
            server.resume()
            await transport.aclose()

    assert caught.value.stage == "health"


@pytest.mark.live
async def test_a_cancelled_read_is_told_as_a_cancel_and_not_as_an_error(triton: EmbeddedTriton, way: Way) -> None:
    transport = transport_to(url_of(triton, way))
    call = await transport.stream(ENDLESS, timeout_s=10)
    await call.read()

    async def cancel_soon() -> None:
        await anyio.wait_all_tasks_blocked()
        call.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel_soon)
        with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
            await call.read()
    call.cancel()
    await transport.aclose()


@pytest.mark.live
async def test_a_call_that_failed_does_not_end_in_order_when_read_again(triton: EmbeddedTriton, way: Way) -> None:
    transport = transport_to(url_of(triton, way))
    cancelled = await transport.stream(ENDLESS, timeout_s=10)
    await cancelled.read()
    cancelled.cancel()
    late = await transport.stream(ENDLESS, timeout_s=0.01)  # the second one, as connecting may take longer than that

    with anyio.fail_after(5):
        with suppress(DeadlineExceeded):
            while await late.read():
                pass  # an engine that is quick says something in time
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await late.read()
            with pytest.raises(asyncio.CancelledError):
                await cancelled.read()
    await transport.aclose()


@pytest.mark.live
@live_over_grpc  # which only says how the test asks; the model waits for a cancel that HTTP does not bring
async def test_closing_ends_an_inference_under_way_with_an_error_of_the_contract(
    triton: EmbeddedTriton, adapter: TritonAdapter
) -> None:
    errors: list[AdapterError] = []
    async with loaded(adapter, "waits-for-cancel", inputs=[X], outputs=[Y], code=WAITS):
        closing = TritonAdapter(TritonSettings(url=triton.grpc_url))
        request = InferRequest(model="waits-for-cancel", inputs=(Tensor("X", "FP32", (1,), bytes(4)),))

        async def infer() -> None:
            try:
                await closing.infer(request)
            except AdapterError as exc:
                errors.append(exc)

        async with anyio.create_task_group() as group:
            async with closing:
                await closing.models.schema("waits-for-cancel")
                group.start_soon(infer)
                with anyio.fail_after(5):
                    while not (await closing.health()).capacity.in_flight:  # noqa: ASYNC110 - the server tells of no event
                        await anyio.sleep(0.01)

    assert [type(error) for error in errors] == [AdapterClosed]


async def test_closing_while_it_connects_tells_all_that_wait(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = transport_to(f"{SCHEMES[way]}://127.0.0.1:{silent.getsockname()[1]}")
        errors: list[AdapterError] = []

        async def ask() -> None:
            try:
                await transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=5)
            except AdapterError as exc:
                errors.append(exc)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                await transport.aclose()

    assert [(type(error), error.retryable) for error in errors] == [(AdapterClosed, True)] * 2


async def test_a_closed_transport_sends_nothing(way: Way) -> None:
    transport = transport_to(f"{SCHEMES[way]}://127.0.0.1:1")
    await transport.aclose()
    await transport.aclose()

    with pytest.raises(AdapterClosed):
        await transport.stream(ENDLESS, timeout_s=1)


async def test_nothing_to_connect_to_is_told_at_once(way: Way) -> None:
    transport = transport_to(f"{SCHEMES[way]}://127.0.0.1:1")
    said = "nothing listens" if way == "grpc" else "is the server running"

    with anyio.fail_after(3), pytest.raises(ConnectFailed, match=said):
        await transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=10)
    await transport.aclose()


class Babble(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers every call with bytes that are no message of ours."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff\xff\xff\x07")


@pytest.mark.parametrize("handlers, said", [((Babble(),), "does not parse"), ((), "none of the v2 protocol")])
async def test_a_grpc_server_of_something_else_is_told_as_such(
    handlers: tuple[grpc.GenericRpcHandler, ...], said: str
) -> None:
    server = grpc.aio.server(handlers=handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with TritonAdapter(TritonSettings(url=f"grpc://127.0.0.1:{port}")) as adapter:
            report = await adapter.health()
    finally:
        await server.stop(None)

    assert (report.state, said in report.detail) == (HealthState.UNREACHABLE, True), report.detail
