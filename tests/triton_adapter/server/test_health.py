"""How the adapter tells one state of a server from another."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from adapter_api import Error, HealthState, TaskRequest
from adapter_api.testing import collect
from tests.triton_adapter.lab import loaded, tensor
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.anyio

X, Y = tensor("X", "TYPE_FP32", 1), tensor("Y", "TYPE_FP32", 1)
SLOW_START = """
def initialize(self, args):
    import time
    time.sleep(1.5)

def execute(self, requests):
    return [answer(Y=value(request, "X")) for request in requests]
"""


@pytest.fixture(scope="module")
def empty_triton() -> Iterator[EmbeddedTriton]:
    """A server with a repository and no model loaded."""
    with EmbeddedTriton(model_control_mode="explicit") as server:
        yield server


@pytest.fixture
async def empty(empty_triton: EmbeddedTriton) -> AsyncIterator[TritonAdapter]:
    async with TritonAdapter(TritonSettings(url=empty_triton.grpc_url)) as adapter:
        yield adapter


@pytest.mark.live
async def test_a_server_without_models_is_alive_and_takes_no_work(empty: TritonAdapter) -> None:
    report = await empty.health()

    assert (report.state, report.live, report.ready) == (HealthState.DEGRADED, True, False)
    assert report.detail == "no model is loaded"
    assert all(not model.ready for model in report.models)


@pytest.mark.live
async def test_a_model_that_was_never_loaded_is_not_ready_and_says_how_to_load_it(empty: TritonAdapter) -> None:
    events = await collect(empty.submit(TaskRequest(model="tinylm", prompt="x")))

    assert isinstance(events[-1], Error)
    assert (events[-1].code, events[-1].retryable) == ("not_ready", True)
    assert "models load tinylm" in events[-1].message


@pytest.mark.live
async def test_a_server_whose_only_model_loads_is_starting(empty: TritonAdapter) -> None:
    states: list[HealthState] = []
    details: list[str] = []

    async def watch(done: anyio.Event) -> None:
        while not done.is_set():
            report = await empty.health()
            states.append(report.state)
            details.append(report.detail)

    # The index knows only models of the repository: one of those has to be slow to load.
    done = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(watch, done)
            await empty.models.load("tinylm")
            done.set()
    report = await empty.health()
    await empty.models.unload("tinylm")

    assert HealthState.STARTING in states
    assert any("loading" in detail for detail in details)
    assert (report.state, report.ready) == (HealthState.READY, True)


@pytest.mark.live
async def test_a_model_that_loads_beside_ready_ones_degrades_and_does_not_stop_work(adapter: TritonAdapter) -> None:
    states: list[tuple[HealthState, bool]] = []

    async def watch(done: anyio.Event) -> None:
        while not done.is_set():
            report = await adapter.health()
            states.append((report.state, report.ready))

    done = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(watch, done)
        async with loaded(adapter, "starts-slowly", inputs=[X], outputs=[Y], code=SLOW_START):
            done.set()

    assert (HealthState.DEGRADED, True) in states
    assert {ready for _, ready in states} == {True}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_peer_that_accepts_and_says_nothing_is_given_up_in_time(silent_port: int) -> None:
    settings = TritonSettings(url=f"grpc://127.0.0.1:{silent_port}", connect_timeout_s=0.3, max_retries=0)
    async with TritonAdapter(settings) as adapter:
        with anyio.fail_after(3):
            events = await collect(adapter.submit(TaskRequest(model="m", prompt="x")))
            report = await adapter.health()

    assert len(events) == 1
    assert isinstance(events[0], Error)
    assert (events[0].code, events[0].stage, events[0].retryable) == ("deadline_exceeded", "connect", True)
    assert report.state is HealthState.UNREACHABLE
    assert "no connection within 0.3 s" in report.detail


@pytest.fixture
async def web_server() -> AsyncIterator[int]:
    """A port that answers whatever comes as an HTTP/1 server does."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def test_a_web_server_is_told_apart_from_an_engine(web_server: int) -> None:
    async with TritonAdapter(TritonSettings(url=f"grpc://127.0.0.1:{web_server}", max_retries=0)) as adapter:
        with anyio.fail_after(10):
            events = await collect(adapter.submit(TaskRequest(model="m", prompt="x")))
            report = await adapter.health()

    assert isinstance(events[0], Error)
    assert events[0].code == "connect_failed"
    assert "gRPC" in events[0].message
    assert report.state is HealthState.UNREACHABLE
    assert "gRPC" in report.detail


@pytest.mark.live
async def test_tritons_own_http_port_is_told_apart_from_its_grpc_port(triton: EmbeddedTriton) -> None:
    async with TritonAdapter(TritonSettings(url=triton.http_url, max_retries=0)) as adapter:
        report = await adapter.health()

    assert report.state is HealthState.UNREACHABLE
    assert "gRPC port" in report.detail


@pytest.mark.live
async def test_tls_against_a_plaintext_server_says_what_to_write(triton: EmbeddedTriton) -> None:
    url = triton.grpc_url.replace("grpc://", "grpcs://")
    async with TritonAdapter(TritonSettings(url=url, max_retries=0)) as adapter:
        report = await adapter.health()

    assert report.state is HealthState.UNREACHABLE
    assert "grpc://" in report.detail
