"""What is written down when a task is refused, starts, moves and ends: metrics, hooks, the log, the job's record."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

from adapter_api import (
    AdapterError,
    CancelReceipt,
    Culprit,
    End,
    Error,
    HealthReport,
    PluginHost,
    Started,
    TaskRequest,
    judge,
)
from orchestrator.observability.changes import Changes
from orchestrator.observability.metrics import OrchestratorMetrics
from orchestrator.observability.statistics import Statistics
from orchestrator.pools.claim import Work
from orchestrator.pools.pool import Pool
from orchestrator.pools.replica import Replica
from orchestrator.pools.ticket import Ticket
from orchestrator.rollout.report import Figures, Outcome
from orchestrator.work.jobs import Jobs

if TYPE_CHECKING:
    from orchestrator.observability.tracing import Tracing

_log = logging.getLogger("orchestrator")


class Ledger:
    """Told what happens, once each. Nothing of a prompt or an answer is written anywhere."""

    def __init__(
        self, jobs: Jobs, metrics: OrchestratorMetrics, plugins: PluginHost, tracing: Tracing | None = None
    ) -> None:
        self._jobs = jobs
        self._metrics = metrics
        self._plugins = plugins
        self._tracing = tracing
        self.changes = Changes(metrics)
        self.statistics = Statistics()
        """What each model has done."""
        self.figures = Figures()
        """The last tasks of each pool, to put pools side by side."""

    def refused(self, work: Work, pool_id: str, exc: AdapterError, owner: str | None = None) -> None:
        self._metrics.task_rejected(pool_id, exc.code)
        if self._tracing is not None:
            self._tracing.refused(work, pool_id, exc.code)
        _log.info(
            "refused job %s: %s", work.job_id, exc.message,
            extra={
                "job_id": work.job_id, "code": exc.code, "owner": owner, "model_id": work.model, "pool_id": pool_id,
                "session_id": work.session_id,
            },
        )  # fmt: skip

    def rate_limited(self, error: Error, owner: str | None) -> None:
        """Count a task whose sender has had their share; it has no name yet."""
        self._metrics.task_rejected("", error.code)
        _log.info("refused a task of %s: %s", owner, error.message, extra={"code": error.code, "owner": owner})

    def accepted(self, ticket: Ticket, traceparent: str | None) -> str | None:
        """Return the trace context that the task's engine is to have."""
        return traceparent if self._tracing is None else self._tracing.accepted(ticket)

    def started(self, ticket: Ticket, started: Started) -> None:
        ticket.version = started.model_version or ticket.version
        self._metrics.task_started(ticket)
        if self._tracing is not None:
            self._tracing.started(ticket)
        if not _is_copy(ticket):
            self._plugins.call("worker_adapter_task_started", task=ticket.work, started=started)

    def moved(self, ticket: Ticket, replica: Replica, error: Error) -> None:
        self._metrics.task_moved(replica, error)
        if self._tracing is not None:
            self._tracing.moved(ticket, replica, error)
        _log.warning(
            "job %s moves on from replica %s/%s, which failed before it showed anything: %s",
            ticket.work.job_id, replica.pool_id, replica.id, error.message,
            extra={
                "job_id": ticket.work.job_id, "request_id": ticket.request_id, "pool_id": replica.pool_id,
                "replica_id": replica.id, "code": error.code,
            },
        )  # fmt: skip

    def cancelled(self, ticket: Ticket, receipt: CancelReceipt, tokens_after: int) -> None:
        self._metrics.task_cancelled(ticket.pool.id, receipt, tokens_after)
        _log.info(
            "cancelled job %s (%s) within %.1f ms", ticket.work.job_id, receipt.mode or "no engine had it yet",
            receipt.after_ms,
            extra={"job_id": ticket.work.job_id, "request_id": ticket.request_id, "pool_id": ticket.pool.id},
        )  # fmt: skip

    def ended(self, ticket: Ticket, tokens: int) -> None:
        """Count a task out; its `terminal` is known."""
        self._jobs.end(ticket)
        self._metrics.task_ended(ticket, tokens, perf_counter())
        if self._tracing is not None:
            self._tracing.ended(ticket, tokens)
        self._remember(ticket, tokens)
        if not _is_copy(ticket):
            self.statistics.ended(ticket)
            if isinstance(ticket.work, TaskRequest):
                self._plugins.call("worker_adapter_task_ended", task=ticket.work, terminal=ticket.terminal)
        level = logging.WARNING if _has_failed(ticket) else logging.INFO
        if _log.isEnabledFor(level):
            _log_end(ticket, tokens, level)

    def _remember(self, ticket: Ticket, tokens: int) -> None:
        outcome, first = ticket.outcome, ticket.first_token_at
        if outcome == "cancelled":
            return  # its times are the client's
        self.figures.add(
            ticket.pool.id,
            Outcome(
                outcome=outcome,
                failed=isinstance(ticket.terminal, Error),
                total_ms=(perf_counter() - ticket.arrived) * 1e3,
                ttft_ms=None if first is None else (first - ticket.arrived) * 1e3,
                tokens=tokens,
            ),
        )

    def probed(self, pool: Pool, replica: Replica, report: HealthReport, changed: bool) -> None:
        self.changes.look(pool, replica)
        if not changed:
            return
        self._plugins.call("worker_adapter_health_changed", pool_id=pool.id, replica_id=replica.id, report=report)


def _is_copy(ticket: Ticket) -> bool:
    """Whether it is shadow traffic, which is nobody's task."""
    return ticket.pool.settings.shadow_of is not None


def _has_failed(ticket: Ticket) -> bool:
    """Whether it ended in an error that is not about what was asked."""
    terminal = ticket.terminal
    return isinstance(terminal, Error) and judge(terminal).condemns is not Culprit.TASK


def _log_end(ticket: Ticket, pieces: int, level: int) -> None:
    """Tell that a task ended, after the tokens that its engine counted, or else after the pieces of output."""
    work, replica, first = ticket.work, ticket.served_by, ticket.first_token_at
    # As it is, with the engine's address: the client was told less.
    reason = f": {ticket.untold or ticket.terminal.message}" if isinstance(ticket.terminal, Error) else ""
    outcome = ticket.outcome
    counted = ticket.terminal.usage.tokens_out if isinstance(ticket.terminal, End) else None
    tokens, unit = (pieces, "pieces") if counted is None else (counted, "tokens")
    said = (
        "job %s ended (%s) after %d %s%s" if ticket.granted_at is not None else
        "job %s ended (%s) while it waited, after %d %s%s"
    )  # fmt: skip
    # Each task has one such record, and its place is known: nobody looks through the callers for it.
    record = _log.makeRecord(
        _log.name, level, __file__, 0, said, (work.job_id, outcome, tokens, unit, reason), None, "_log_end",
        {
            "job_id": work.job_id, "request_id": ticket.request_id, "session_id": work.session_id,
            "owner": ticket.owner, "model_id": work.model,
            "engine_model": replica.names.own(work.model) if replica else None,
            "outcome": outcome,
            "engine": replica.engine if replica else None,
            "engine_version": replica.engine_version if replica else None,
            "pool_id": ticket.pool.id, "replica_id": replica.id if replica else None,
            "queue_position": ticket.queue_position, "predicted_start_ms": ticket.predicted_start_ms,
            "tokens_in": ticket.tokens_in, "tokens_out": tokens, "kv_warmth": ticket.kv_warmth,
            "queue_ms": ticket.waited_s * 1e3,
            "decode_time_ms": None if first is None else (perf_counter() - first) * 1e3,
        },
    )  # fmt: skip
    _log.handle(record)
