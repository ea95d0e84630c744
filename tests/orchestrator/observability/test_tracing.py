"""Spans of tasks: the client's trace goes on in them, and from them to the engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from subprocess import run

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from adapter_api import Error, InferRequest, Tensor
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator
from orchestrator.observability.tracing import MAX_TEXT, Tracing
from tests.orchestrator.pooling import adapter_of, mock_host, settings, task

pytestmark = pytest.mark.anyio

CLIENTS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CANARY = "canary-4711"


class Traced:
    """Makes orchestrators that trace, and keeps their spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def orchestrator(self, *replicas: dict[str, object]) -> Orchestrator:
        return Orchestrator(
            settings(*replicas), plugins=mock_host(), tracing=Tracing(self._provider.get_tracer("test"))
        )

    @property
    def span(self) -> ReadableSpan:
        (span,) = self._exporter.get_finished_spans()
        return span


@pytest.fixture
def traced() -> Traced:
    return Traced()


def events_of(span: ReadableSpan) -> list[str]:
    return [event.name for event in sorted(span.events, key=lambda event: event.timestamp)]


async def test_a_task_is_one_span_with_its_events_and_figures(traced: Traced) -> None:
    async with traced.orchestrator({}) as host:
        await collect(host.submit(task(job_id="j1", session_id="s1")))

    span = traced.span
    attributes = dict(span.attributes or {})
    assert span.name == "task mock"
    assert [event.name for event in span.events] == ["started", "first_token"]
    assert span.events[0].timestamp <= span.events[1].timestamp
    assert attributes["worker_adapter.job_id"] == "j1"
    assert attributes["worker_adapter.session_id"] == "s1"
    assert attributes["worker_adapter.replica_id"] == "r0"
    assert attributes["worker_adapter.outcome"] == "length"
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert span.start_time is not None
    assert span.end_time is not None
    assert all(span.start_time <= event.timestamp <= span.end_time for event in span.events)


@pytest.mark.spec("ORCH-3062-013")
async def test_the_clients_trace_goes_on_and_reaches_the_engine(traced: Traced) -> None:
    async with traced.orchestrator({}) as host:
        await collect(host.submit(task(traceparent=CLIENTS)))
        engine = adapter_of(host, "r0")
        assert isinstance(engine, MockAdapter)
        (submitted,) = engine.submitted

    span = traced.span
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == CLIENTS.split("-")[2]
    assert span.context is not None
    assert submitted.traceparent == f"00-{CLIENTS.split('-')[1]}-{span.context.span_id:016x}-01"


@pytest.mark.spec("ORCH-3062-013")
@pytest.mark.parametrize("tracing", [True, False])
async def test_what_comes_with_the_clients_trace_reaches_the_engine_too(traced: Traced, tracing: bool) -> None:
    async with traced.orchestrator({}) if tracing else Orchestrator(settings({}), plugins=mock_host()) as host:
        await collect(host.submit(task(traceparent=CLIENTS, tracestate="vendor=x", baggage="team=a")))
        engine = adapter_of(host, "r0")
        assert isinstance(engine, MockAdapter)
        (submitted,) = engine.submitted

    assert dict(submitted.trace_headers)["tracestate"] == "vendor=x"
    assert dict(submitted.trace_headers)["baggage"] == "team=a"
    if tracing:
        assert traced.span.context is not None
        assert traced.span.context.trace_state.get("vendor") == "x"
        assert "team" not in traced.span.to_json()


@pytest.mark.spec("ORCH-3062-020")
@pytest.mark.parametrize("fields", [{"model": "made-up"}, {"model": "mock", "max_tokens": 3}])
async def test_a_task_that_is_refused_is_a_span_in_the_clients_trace(traced: Traced, fields: dict[str, object]) -> None:
    async with traced.orchestrator({"slots": 1}) as host:
        await host.drain("default")
        (error,) = await collect(host.submit(task(job_id="j", traceparent=CLIENTS, **fields)))

    assert isinstance(error, Error)
    assert dict(traced.span.attributes or {})["error.type"] == error.code
    assert traced.span.parent is not None
    assert traced.span.status.status_code is StatusCode.ERROR


async def test_without_tracing_the_engine_gets_the_clients_own_context() -> None:
    async with Orchestrator(settings({}), plugins=mock_host()) as host:
        await collect(host.submit(task(traceparent=CLIENTS)))
        engine = adapter_of(host, "r0")
        assert isinstance(engine, MockAdapter)

        assert [each.traceparent for each in engine.submitted] == [CLIENTS]


async def test_an_error_is_told_by_its_code_and_a_move_by_its_replica(traced: Traced) -> None:
    async with traced.orchestrator({"fail": "connect_failed"}) as host:
        await collect(host.submit(task()))

    span = traced.span
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "connect_failed"
    assert events_of(span) == ["moved", "moved", "started"] or events_of(span) == ["moved", "moved"]


async def test_a_cancelled_task_says_so_and_is_no_error(traced: Traced) -> None:
    async with traced.orchestrator({"hang_after": 1}) as host:
        stream = host.submit(task(job_id="j"))
        await anext(stream)
        await host.cancel("j")

    assert dict(traced.span.attributes or {})["worker_adapter.outcome"] == "cancelled"
    assert traced.span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("ends", [lambda stream: None, lambda stream: stream])
async def test_a_stream_that_nobody_reads_leaves_no_open_span(traced: Traced, ends: Callable[[object], object]) -> None:
    async with traced.orchestrator({}) as host:
        kept = ends(host.submit(task()))
        with anyio.move_on_after(0):
            await anyio.lowlevel.checkpoint()
    del kept

    assert traced.span.end_time is not None


async def test_an_inference_on_tensors_is_a_span_too(traced: Traced) -> None:
    async with traced.orchestrator({}) as host:
        inputs = (Tensor("x", "INT8", (2,), b"\x01\x02"),)
        await host.infer(InferRequest(model="mock", inputs=inputs, traceparent=CLIENTS))

    assert traced.span.parent is not None


@pytest.mark.spec("ORCH-3062-014")
async def test_spans_hold_no_word_of_prompt_or_answer_and_no_endless_text(traced: Traced) -> None:
    async with traced.orchestrator({"reply": f"said {CANARY}"}) as host:
        await collect(host.submit(task(prompt=CANARY, stop=("never",), session_id="s" * 256)))

    told = traced.span.to_json()
    assert CANARY not in told
    assert "Hello" not in told
    assert max(len(value) for value in (traced.span.attributes or {}).values() if isinstance(value, str)) <= MAX_TEXT


def test_a_host_that_does_not_trace_loads_no_opentelemetry() -> None:
    # The HTTP framework may load it for reasons of its own: so the orchestrator alone, and what we make of it.
    program = "import orchestrator, sys; print([name for name in sys.modules if 'opentelemetry' in name])"

    shown = run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert shown.stdout.strip() == "[]"
