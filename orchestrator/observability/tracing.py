"""OpenTelemetry spans, one per task. Imported only by hosts that trace; needs the extra `otel`.

A task's span continues the client's trace (its `traceparent`), and the engine is told to continue the span. Spans hold
names and figures, never a word of a prompt, an answer or an error's message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

import anyio.to_thread
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from adapter_api import End, Error
from orchestrator.observability.request_id import request_id

if TYPE_CHECKING:
    from orchestrator.config import TracingSettings
    from orchestrator.pools.claim import Work
    from orchestrator.pools.replica import Replica
    from orchestrator.pools.ticket import Ticket

MAX_TEXT = 256
"""Longest text in a span; what is longer is cut."""
CLOSE_S = 5.0
"""How long spans that were not yet sent may take when the host ends."""

_propagator = TraceContextTextMapPropagator()
Attributes = Mapping[str, str | float | bool | None]


class Tracing:
    """Told what happens to tasks. The ticket carries its span; `tracer` says where spans go."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def accepted(self, ticket: Ticket) -> str | None:
        """Begin the task's span and return the `traceparent` for its engine; what else came with it stays as it is."""
        ticket.span = span = self._begin(ticket.work, ticket.pool.id, ticket.request_id)
        span.set_attribute("worker_adapter.queue_position", ticket.queue_position)
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(span))
        return carrier.get("traceparent", dict(ticket.work.trace_headers).get("traceparent"))

    def refused(self, work: Work, pool_id: str, code: str) -> None:
        """Make a span of a task that was not even queued."""
        span = self._begin(work, pool_id, request_id.get())
        span.set_attributes({"worker_adapter.outcome": code, "worker_adapter.refused": True, "error.type": code})
        span.set_status(Status(StatusCode.ERROR, code))
        span.end()

    def _begin(self, work: Work, pool_id: str, request: str | None) -> Span:
        headers = dict(work.trace_headers)
        return self._tracer.start_span(
            f"task {work.model}"[:MAX_TEXT],
            context=_propagator.extract(headers) if "traceparent" in headers else None,
            kind=SpanKind.SERVER,
            attributes=_known({
                "worker_adapter.job_id": work.job_id,
                "worker_adapter.session_id": work.session_id,
                "worker_adapter.request_id": request,
                "worker_adapter.pool_id": pool_id or None,
                "worker_adapter.priority": work.priority,
                "gen_ai.request.model": work.model,
            }),
        )  # fmt: skip

    def started(self, ticket: Ticket) -> None:
        if ticket.span is not None and ticket.replica is not None:
            # It is told together with the first token, whose time was taken a moment ago: that must not be earlier.
            first = ticket.first_token_at
            now_ns = time_ns() if first is None else time_ns() - int((perf_counter() - first) * 1e9)
            ticket.span.add_event("started", _known(_place(ticket.replica)), timestamp=now_ns)
            if first is not None:
                ticket.span.add_event("first_token", timestamp=now_ns)
                ticket.first_token_traced = True

    def moved(self, ticket: Ticket, replica: Replica, error: Error) -> None:
        """Note that the task leaves a replica that failed it."""
        if ticket.span is not None:
            ticket.span.add_event("moved", _known({**_place(replica), "error.type": error.code}))

    def ended(self, ticket: Ticket, tokens: int) -> None:
        """End the span, with what became of the task."""
        span, ticket.span = ticket.span, None
        if span is None:
            return
        now_ns, now, first, terminal = time_ns(), perf_counter(), ticket.first_token_at, ticket.terminal
        if first is not None and not ticket.first_token_traced:
            span.add_event("first_token", timestamp=now_ns - int((now - first) * 1e9))
        span.set_attributes(_known({
            **(_place(ticket.served_by) if ticket.served_by else {}),
            "worker_adapter.outcome": ticket.outcome,
            "worker_adapter.attempts": ticket.attempts,
            "worker_adapter.queue_ms": ticket.waited_s * 1e3,
            "worker_adapter.time_to_first_token_ms": None if first is None else (first - ticket.arrived) * 1e3,
            "worker_adapter.kv_warmth": ticket.kv_warmth,
            "gen_ai.usage.input_tokens": ticket.tokens_in,
            "gen_ai.usage.output_tokens": terminal.usage.tokens_out if isinstance(terminal, End) else None,
            "worker_adapter.token_events": tokens,
        }))  # fmt: skip
        if isinstance(terminal, Error):
            span.set_attribute("error.type", terminal.code)
            span.set_status(Status(StatusCode.ERROR, terminal.code))
        span.end(now_ns)


@asynccontextmanager
async def sending(settings: TracingSettings) -> AsyncIterator[Tracing]:
    """Send spans by OTLP while the block runs, in the background; what a collector does not take is dropped."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": settings.service_name}),
        sampler=ParentBasedTraceIdRatio(settings.sample_ratio),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint)))
    try:
        yield Tracing(provider.get_tracer("orchestrator"))
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await anyio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def _place(replica: Replica) -> Attributes:
    return {
        "worker_adapter.replica_id": replica.id,
        "worker_adapter.engine": replica.engine,
        "worker_adapter.engine_version": replica.engine_version,
    }


def _known(attributes: Attributes) -> dict[str, str | float | bool]:
    return {
        name: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }
