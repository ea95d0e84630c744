"""Prometheus metrics, in a registry of the orchestrator's own, written per task and per look, never per token.

Labels: `engine, engine_version, pool_id, replica_id, model_id`, and a few closed sets (`outcome`, `priority`, `state`).
A model's name becomes a label only when a replica has it, so that no client can make labels up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.registry import Collector

from adapter_api import CancelReceipt, Error, HealthState, PluginReport, PluginStatus
from orchestrator.observability.kept_metrics import Counters, Histograms
from orchestrator.pools.breaker import BreakerState
from orchestrator.pools.pool import Pool
from orchestrator.pools.replica import Replica
from orchestrator.pools.ticket import Ticket

LABELS = ("engine", "engine_version", "pool_id", "replica_id", "model_id")
REPLICA_LABELS = ("engine", "engine_version", "pool_id", "replica_id")
PREFIX = "worker_adapter"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_GAPS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_BREAKER_VALUE = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class OrchestratorMetrics:
    """Everything that is counted. `registry` may be exported as it is."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(_counter, registry), partial(_gauge, registry)
        histogram = partial(_histogram, registry)
        pool, lane = ("pool_id",), ("pool_id", "priority")
        self._tasks = counter("tasks", "Tasks that ended", (*LABELS, "outcome"))
        self._started = counter("tasks_started", "Tasks whose started was passed on", LABELS)
        self._rejected = counter("tasks_rejected", "Tasks refused on arrival", (*pool, "code"))
        self._refused = counter(
            "requests_refused", "Requests that the host turned away before they were work, by why", ("code",)
        )
        self._unserved = counter("tasks_unserved", "Tasks that ended while they waited", (*lane, "outcome"))
        self._tokens_in = counter("tokens_in", "Prompt tokens the engine counted", LABELS)
        self._tokens_out = counter("tokens_out", "Events of output passed on: text, reasoning, tool calls", LABELS)
        self._retries = counter("retries", "Moves of tasks that had shown nothing", (*REPLICA_LABELS, "code"))
        self._cancels = counter("cancels", "Cancels of a live task", (*pool, "mode"))
        self._after_cancel = counter("tokens_after_cancel", "Events of output a replica sent after its cancel", pool)
        self._sessions_moved = counter("sessions_moved", "Session tasks that ran where their session had not", pool)
        self._ttft = histogram("time_to_first_token_seconds", "From arrival to the first token", LABELS)
        self._gap = histogram("inter_token_seconds", "Mean time between tokens of a task", LABELS, _GAPS)
        self._duration = histogram("task_seconds", "From arrival to the end", LABELS)
        self._waited = histogram("queue_wait_seconds", "From arrival to a slot", lane)
        self._cancel_latency = histogram("cancel_seconds", "From a cancel to its receipt", pool)
        self._queue_depth = gauge("queue_depth", "Tasks that wait", lane)
        self._queue_limit = gauge("queue_limit", "Tasks that may wait", pool)
        self._in_flight = gauge("in_flight", "Tasks at a replica", REPLICA_LABELS)
        self._slots = gauge("slots", "Tasks a replica may run at once", REPLICA_LABELS)
        self._ready = gauge("replica_ready", "1 when the replica gets work", REPLICA_LABELS)
        self._state = gauge("replica_state", "1 for the state the replica is in", (*REPLICA_LABELS, "state"))
        self._breaker = gauge("breaker", "0 closed, 1 half open, 2 open", REPLICA_LABELS)
        self._model_breaker = gauge(
            "model_breaker", "1 half open, 2 open; absent for a model whose breaker at the replica is closed", LABELS
        )
        self._probe_latency = gauge("probe_seconds", "How long the last health probe took", REPLICA_LABELS)
        self._draining = gauge("replica_draining", "1 when it, or its pool, is drained", REPLICA_LABELS)
        self._models_ready = gauge("models_ready", "Models a replica has ready", REPLICA_LABELS)
        self._certificate = gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate ends by which a replica knows us, or, without a replica, by which clients know us",
            REPLICA_LABELS,
        )
        self._changes = counter("changes", "Changes of what tasks meet", (*pool, "replica_id", "change"))
        self._plugins = gauge("plugins", "Installed plugins", ("status",))
        self._reload = gauge("config_last_reload_successful", "0 when the last reload was refused", ())
        self._reload.set(1)
        self.tokens_out = self.tasks_refused = 0
        """Of all pools together, for people: the counters of the same names have them by label."""

    def add_collectors(self, collectors: Iterable[Collector]) -> None:
        """Export other collectors beside ours."""
        for collector in collectors:
            self.registry.register(collector)

    def task_started(self, ticket: Ticket) -> None:
        self._started.add(_labels(ticket))

    def task_rejected(self, pool_id: str, code: str) -> None:
        self._rejected.add((pool_id, code))
        self.tasks_refused += 1

    def request_refused(self, code: str) -> None:
        """Count a request that the host itself turned away; `code` is of a closed set."""
        self._refused.add((code,))

    def changed(self, change: str, pool_id: str, replica_id: str) -> None:
        self._changes.add((pool_id, replica_id, change))
        if change in ("reloaded", "reload_refused"):
            self._reload.set(1 if change == "reloaded" else 0)

    def task_moved(self, replica: Replica, error: Error) -> None:
        self._retries.add((*_replica_labels(replica), error.code))

    def task_ended(self, ticket: Ticket, tokens: int, now: float) -> None:
        """Count everything of a task at once."""
        labels, outcome = _labels(ticket), ticket.outcome
        lane, waited_s, first = (ticket.pool.id, ticket.work.priority), ticket.waited_s, ticket.first_token_at
        self._tasks.add((*labels, outcome))
        self._duration.observe(labels, now - ticket.arrived)
        self._waited.observe(lane, waited_s)
        if ticket.granted_at is None:
            self._unserved.add((*lane, outcome))
        self._count_tokens(ticket, tokens, labels)
        if ticket.tokens_in:
            self._tokens_in.add(labels, ticket.tokens_in)
        if first is not None:
            self._ttft.observe(labels, first - ticket.arrived)
            if tokens > 1:
                self._gap.observe(labels, (now - first) / (tokens - 1))
        if ticket.kv_warmth is False:
            self._sessions_moved.add((ticket.pool.id,))

    def task_cancelled(self, pool_id: str, receipt: CancelReceipt, tokens_after: int) -> None:
        self._cancels.add((pool_id, receipt.mode or "unknown"))
        self._cancel_latency.observe((pool_id,), receipt.after_ms / 1e3)
        if tokens_after:
            self._after_cancel.add((pool_id,), tokens_after)

    def count_live(self, tickets: Iterable[Ticket]) -> None:
        """Count the tokens that live tasks have had so far, so that a long task does not count in one leap."""
        for ticket in tickets:
            if (stream := ticket.stream) is not None:
                self._count_tokens(ticket, stream.outputs, _labels(ticket))

    def refresh(
        self, pools: Iterable[Pool], plugins: Iterable[PluginReport] = (), certificate_expires_at: float | None = None
    ) -> None:
        """Set the gauges to how things are; call it before the registry is read."""
        for gauge in (self._queue_depth, self._queue_limit, self._in_flight, self._slots, self._ready, self._state,
                      self._breaker, self._model_breaker, self._probe_latency, self._draining, self._models_ready,
                      self._certificate, self._plugins):  # fmt: skip
            gauge.clear()  # a replica that is gone must not linger
        for status in PluginStatus:
            self._plugins.labels(status.value).set(0)
        for plugin in plugins:
            self._plugins.labels(plugin.status.value).inc()
        if certificate_expires_at is not None:
            self._certificate.labels("", "", "", "").set(certificate_expires_at)
        for pool in pools:
            self._queue_limit.labels(pool.id).set(pool.settings.queue.limit)
            self._queue_depth.labels(pool.id, "interactive").set(pool.line.depth("interactive"))
            self._queue_depth.labels(pool.id, "batch").set(pool.line.depth("batch"))
            for replica in pool.replicas.values():
                self._refresh_replica(pool, replica)

    def _refresh_replica(self, pool: Pool, replica: Replica) -> None:
        labels = _replica_labels(replica)
        self._in_flight.labels(*labels).set(replica.in_flight)
        self._slots.labels(*labels).set(replica.slots)
        self._ready.labels(*labels).set(0 if pool.why_no_work(replica) else 1)
        self._breaker.labels(*labels).set(_BREAKER_VALUE[replica.trust.breaker.state])
        for model in replica.trust.models():
            if model.breaker is not BreakerState.CLOSED and pool.knows(model.model):
                self._model_breaker.labels(*labels, model.model).set(_BREAKER_VALUE[model.breaker])
        self._draining.labels(*labels).set(1 if pool.draining or replica.draining else 0)
        if replica.report is not None:
            self._probe_latency.labels(*labels).set(replica.report.latency_s)
            ready = {model.name for model in replica.report.models if model.ready}
            self._models_ready.labels(*labels).set(len(ready) if replica.health.takes_work else 0)
        if replica.props is not None and replica.props.certificate_expires_at is not None:
            self._certificate.labels(*labels).set(replica.props.certificate_expires_at)
        for state in HealthState:
            self._state.labels(*labels, state.value).set(1 if replica.health.state is state else 0)

    def _count_tokens(self, ticket: Ticket, tokens: int, labels: tuple[str, ...]) -> None:
        new = tokens - ticket.tokens_counted
        if new > 0:
            ticket.tokens_counted = tokens
            self._tokens_out.add(labels, new)
            self.tokens_out += new


def _counter(registry: CollectorRegistry, name: str, summary: str, labels: Sequence[str]) -> Counters:
    return Counters(registry, f"{PREFIX}_{name}", summary, labels)


def _gauge(registry: CollectorRegistry, name: str, summary: str, labels: Sequence[str]) -> Gauge:
    return Gauge(f"{PREFIX}_{name}", summary, labels, registry=registry)


def _histogram(
    registry: CollectorRegistry, name: str, summary: str, labels: Sequence[str], buckets: Sequence[float] = _SECONDS
) -> Histograms:
    return Histograms(registry, f"{PREFIX}_{name}", summary, labels, buckets)


def _replica_labels(replica: Replica) -> tuple[str, str, str, str]:
    return replica.engine, replica.engine_version or "", replica.pool_id, replica.id


def _labels(ticket: Ticket) -> tuple[str, ...]:
    replica = ticket.served_by
    model = ticket.work.model if ticket.pool.knows(ticket.work.model) else ""
    if replica is None:
        return "", "", ticket.pool.id, "", model
    return (*_replica_labels(replica), model)
