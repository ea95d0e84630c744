"""A serving host sends its spans to a collector, and answers whether there is one or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from adapter_api import ConfigurationError, load_plugins
from tests.orchestrator.http.conftest import Serve
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(HTTPServer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") is None:
            self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


async def test_spans_reach_the_collector_before_the_host_ends(serve: Serve, collector: Collector) -> None:
    async with serve(tracing={"enabled": True, "endpoint": collector.url, "service_name": "mine"}) as host:
        header = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        answer = await host.client.post("/v2/tasks", json={"model": "mock", "prompt": "Hello"}, headers=header)
        assert answer.status_code == 200

    (resource,) = [spans for request in collector.requests for spans in request.resource_spans]
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    (span,) = resource.scope_spans[0].spans
    assert names["service.name"] == "mine"
    assert span.trace_id.hex() == TRACE
    assert span.name == "task mock"


async def test_a_client_that_asked_not_to_be_sampled_is_not(serve: Serve, collector: Collector) -> None:
    async with serve(tracing={"enabled": True, "endpoint": collector.url}) as host:
        header = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}
        await host.client.post("/v2/tasks", json={"model": "mock", "prompt": "Hello"}, headers=header)

    assert collector.requests == []


@pytest.mark.spec("ORCH-3062-013")
@pytest.mark.parametrize("traced", [True, False])
async def test_the_trace_goes_from_http_to_the_engines_grpc_metadata(
    serve: Serve, collector: Collector, fake_triton: FakeTriton, traced: bool
) -> None:
    model = fake_triton.model("llama").respond_with_text("Hello there")
    pool = {"adapter": "triton", "replicas": [{"id": "r0", "options": {"url": fake_triton.grpc_url}}]}
    tracing = {"enabled": traced, "endpoint": collector.url}
    async with serve(pool=pool, plugins=load_plugins(), tracing=tracing) as host:
        header = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        fields = {"model": "llama", "prompt": "Hello"}
        answer = await host.client.post("/v2/tasks", json=fields, headers=header)
        assert "event: end" in answer.text

    (request,) = model.requests
    _, trace, parent, flags = request.origin.metadata["traceparent"].split("-")
    assert (trace, flags) == (TRACE, "01")
    assert (parent != "b7ad6b7169203331") is traced


async def test_without_tracing_nothing_is_sent(serve: Serve, collector: Collector) -> None:
    async with serve() as host:
        await host.client.post("/v2/tasks", json={"model": "mock", "prompt": "Hello"})

    assert collector.requests == []


async def test_tracing_without_its_extra_says_what_to_install(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "orchestrator.observability.tracing", raising=False)
    monkeypatch.delattr("orchestrator.observability.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(ConfigurationError, match=r"pip install .*\[otel\]|pip install 'opentelemetry"):
        async with serve(tracing={"enabled": True}):
            pass
