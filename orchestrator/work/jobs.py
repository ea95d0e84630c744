"""The tasks there are, and the last ones there were, by `job_id`: one `job_id` is accepted once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from time import perf_counter

from adapter_api import End, Error, JobConflict
from orchestrator.pools.status import TaskStatus
from orchestrator.pools.ticket import Ticket
from orchestrator.pools.told import told


class Jobs:
    """Live tickets, and the outcome of the last `retained` tasks."""

    def __init__(self, retained: int) -> None:
        self._retained = retained
        self._live: dict[str, Ticket] = {}
        self._ended: OrderedDict[str, TaskStatus] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(list(self._live.values()))

    def require_new(self, job_id: str) -> None:
        """Raise `JobConflict` when a task of that `job_id` was accepted already."""
        if job_id in self._live:
            raise JobConflict(f"a task with job_id {job_id!r} is already running; choose another, or leave it out")
        if job_id in self._ended:
            raise JobConflict(f"a task with job_id {job_id!r} ran already; choose another, or leave it out")

    def add(self, ticket: Ticket) -> None:
        self._live[ticket.work.job_id] = ticket

    def live(self, job_id: str) -> Ticket | None:
        return self._live.get(job_id)

    def end(self, ticket: Ticket) -> None:
        """Keep what became of a task and forget the task."""
        job_id = ticket.work.job_id
        if self._live.pop(job_id, None) is None:
            return
        self._ended[job_id] = _status(ticket)
        while len(self._ended) > self._retained:
            self._ended.popitem(last=False)

    def status(self, job_id: str) -> TaskStatus | None:
        """Return how a task is, or was; `None` when nothing is known of it."""
        ticket = self._live.get(job_id)
        return _status(ticket) if ticket is not None else self._ended.get(job_id)

    def recent_errors(self, limit: int) -> list[TaskStatus]:
        """Return the last tasks that ended in an error, newest first."""
        failed = (status for status in reversed(self._ended.values()) if isinstance(status.terminal, Error))
        return [status for _, status in zip(range(limit), failed, strict=False)]


def _status(ticket: Ticket) -> TaskStatus:
    work, terminal, stream = ticket.work, ticket.terminal, ticket.stream
    waiting = ticket.replica is None and not ticket.ended
    counted = terminal.usage.tokens_out if isinstance(terminal, End) else None
    return TaskStatus(
        job_id=work.job_id,
        state="ended" if ticket.ended else "queued" if waiting else "running",
        model=work.model,
        pool_id=ticket.pool.id,
        owner=ticket.owner,
        priority=work.priority,
        replica_id=ticket.served_by.id if ticket.served_by else None,
        session_id=work.session_id,
        queue_position=ticket.queue_position,
        predicted_start_ms=ticket.predicted_start_ms,
        queue_ms=ticket.waited_s * 1e3,
        kv_warmth=ticket.kv_warmth,
        attempts=ticket.attempts,
        tokens_out=counted if counted is not None else stream.outputs if stream is not None else 0,
        age_s=perf_counter() - ticket.arrived,
        ended_at=time.time() if ticket.ended else None,
        terminal=None if terminal is None else told(terminal, ticket),
    )
