"""The orchestrator itself: pools, tickets, dispatch and watchers joined."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random
from time import monotonic, perf_counter
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
import msgspec

from adapter_api import (
    AdapterClosed,
    AdapterError,
    CancelReceipt,
    DeadlineExceeded,
    End,
    Error,
    HealthReport,
    ModelNotFound,
    NotReady,
    PluginHost,
    Started,
    TaskRequest,
    TokenEvent,
    TokenStream,
    load_plugins,
)
from orchestrator.dispatch import Dispatcher
from orchestrator.jobs import Jobs
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.monitor import watch
from orchestrator.pools import Pool
from orchestrator.replica import Replica
from orchestrator.routing import choose_pool
from orchestrator.sessions import Affinity
from orchestrator.settings import OrchestratorSettings, PoolSettings
from orchestrator.status import PoolStatus, TaskStatus
from orchestrator.ticket import Ticket

_log = logging.getLogger("orchestrator")


class Orchestrator:
    """Keeps pools of replicas healthy and sends them tasks. Use it as a context manager, in one event loop:

        async with Orchestrator(settings) as orchestrator:
            async for event in orchestrator.submit(TaskRequest(model="m", prompt="Hello")):
                ...

    Opening waits for the first probe of every replica (`health.start_wait_s` at most) and succeeds when engines are
    down. Closing ends every live task with one `Error` of code `closed` and closes all adapters.

    Args:
        settings: Pools and replicas.
        plugins: Where adapters come from; the installed plugins when absent.
    """

    def __init__(self, settings: OrchestratorSettings, *, plugins: PluginHost | None = None) -> None:
        self.settings = settings
        self.plugins = plugins if plugins is not None else load_plugins()
        self.metrics = OrchestratorMetrics()
        self._affinity = Affinity(settings.sessions, monotonic)
        self._jobs = Jobs(settings.retained_jobs)
        self._dispatcher = Dispatcher(on_started=self._on_started, on_moved=self._on_moved, random=Random())
        self._pools: dict[str, Pool] = {}
        self._exit = AsyncExitStack()
        self._watchers: anyio.abc.TaskGroup | None = None

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open every adapter and probe it once.

        Raises:
            ConfigurationError: A pool names an adapter there is not, or options that it does not take.
        """
        self._pools = {pool.id: self._build_pool(pool) for pool in self.settings.pools}
        for collectors in self.plugins.call("worker_adapter_collectors"):
            self.metrics.add_collectors(collectors)
        self._watchers = await self._exit.enter_async_context(anyio.create_task_group())
        for pool in self._pools.values():
            self._start_watching(pool)
        for pool in self._pools.values():
            with anyio.move_on_after(pool.settings.health.start_wait_s):
                for replica in pool.replicas.values():
                    await replica.probed.wait()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        closing = AdapterClosed("the orchestrator was closed while the task was running", retryable=True)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for ticket in self._jobs:
                    if (stream := ticket.stream) is not None:
                        stopping.start_soon(stream.stop, closing)
            for pool in self._pools.values():
                for replica in pool.replicas.values():
                    replica.retire()
        self._watchers = None
        # Without the body's exception: a task group would wrap it.
        await self._exit.aclose()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def submit(self, task: TaskRequest) -> TokenStream:
        """Return the task's stream; never raises for a `TaskRequest`: a refusal arrives as the stream's `Error`.

        The task takes its place in the queue now, its time counts from now, and it runs as the stream is read. Drop the
        stream, or close it, to cancel the task.
        """
        try:
            return self.accept(task)
        except AdapterError as exc:
            return _refused(task, exc)

    def accept(self, task: TaskRequest) -> TokenStream:
        """Return the task's stream like `submit`, or raise why the task is not even queued.

        Raises:
            JobConflict: Its `job_id` was accepted before.
            ModelNotFound: No replica has the model.
            InvalidRequest: It asks for more than the model takes.
            Overloaded: The queue is full.
            NotReady: The pool is draining, or no replica has been reached yet.
            AdapterClosed: The orchestrator is not open.
        """
        pool_id = ""
        try:
            if self._watchers is None:
                raise AdapterClosed("the orchestrator is not open: use `async with orchestrator:`")
            self._jobs.require_new(task.job_id)
            pool = self._choose_pool(task)
            pool_id = pool.id
            pool.check(task)
            ticket = Ticket(task, pool, task.timeout_s or pool.settings.task_timeout_s)
            pool.admit(ticket)
        except AdapterError as exc:
            self.metrics.task_rejected(pool_id, exc.code)
            _log.info("refused job %s: %s", task.job_id, exc.message, extra={"job_id": task.job_id, "code": exc.code})
            raise
        self._jobs.add(ticket)
        stream = TokenStream(
            self._dispatcher.run(ticket),
            job_id=task.job_id,
            timeout_s=ticket.timeout_s,
            on_finished=lambda stream: self._finish(ticket, stream.tokens),
        )
        ticket.stream = stream
        # A stream that is dropped unread never runs its generator, so that nothing else would free its place.
        weakref.finalize(stream, self._finish, ticket, 0).atexit = False
        return stream

    async def cancel(self, job_id: str) -> CancelReceipt:
        """Stop a task, queued or running, and say what that did; an unknown or ended one is `found=False`.

        Once the receipt says `acknowledged`, the task's stream has ended and no token follows.
        """
        began = perf_counter()
        ticket = self._jobs.live(job_id)
        if ticket is None:
            return CancelReceipt(found=False, after_ms=(perf_counter() - began) * 1e3)
        ticket.cancelled = True
        stream = ticket.stream
        tokens_before = stream.tokens if stream is not None else 0
        adapter = ticket.replica.adapter if ticket.replica is not None else None
        if adapter is not None:
            receipt = await adapter.cancel(job_id)
        else:  # it waits: no engine has heard of it
            receipt = CancelReceipt(found=True, released=True, mode="hard")
        if stream is not None:
            await stream.stop(End(finish_reason="cancelled"))
        receipt = msgspec.structs.replace(
            receipt,
            found=True,
            acknowledged=stream is None or stream.finished,
            after_ms=(perf_counter() - began) * 1e3,
        )
        tokens_after = stream.tokens - tokens_before if stream is not None else 0
        self.metrics.task_cancelled(ticket.pool.id, receipt, tokens_after)
        return receipt

    def task(self, job_id: str) -> TaskStatus | None:
        """Return how a task is or how it ended; `None` when nothing is known of it (any more)."""
        return self._jobs.status(job_id)

    @property
    def live_tasks(self) -> tuple[TaskStatus, ...]:
        """The tasks that wait or run, in the order of their arrival."""
        return tuple(status for ticket in self._jobs if (status := self._jobs.status(ticket.task.job_id)) is not None)

    def recent_errors(self, limit: int = 20) -> list[TaskStatus]:
        """Return the last tasks that ended in an error, newest first."""
        return self._jobs.recent_errors(limit)

    # -- pools --------------------------------------------------------------------------------------------------------

    @property
    def pools(self) -> tuple[PoolStatus, ...]:
        """Every pool as it is now."""
        return tuple(pool.status() for pool in self._pools.values())

    @property
    def ready(self) -> bool:
        """Whether any pool takes work."""
        return any(pool.ready for pool in self._pools.values())

    async def health(self, pool_id: str, replica_id: str) -> HealthReport:
        """Return what a probe finds now; raises `KeyError` for a replica there is not."""
        replica = self._pools[pool_id].replicas[replica_id]
        if replica.adapter is None:
            return replica.report or HealthReport(state=replica.health.state, live=False, ready=False)
        return await replica.adapter.health()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _build_pool(self, settings: PoolSettings) -> Pool:
        environ = os.environ if self.settings.read_environment else None
        replicas = []
        for replica_settings in settings.replicas:
            plugin = self.plugins.adapter(replica_settings.adapter or settings.adapter or "")
            replica = Replica(settings, replica_settings, plugin, environ=environ, clock=monotonic)
            replica.create_adapter()  # so that wrong options are told now, not by a watcher later
            replicas.append(replica)
        return Pool(settings, replicas, self._affinity)

    def _start_watching(self, pool: Pool) -> None:
        assert self._watchers is not None
        for replica in pool.replicas.values():
            self._watchers.start_soon(watch, pool, replica, self._on_probe, replica.create_adapter)

    def _choose_pool(self, task: TaskRequest) -> Pool:
        pools = [pool for pool in self._pools.values() if pool.has_model(task.model, task.model_version)]
        if not pools:
            # A pool whose engines were never reached may have it: better "not ready" than "no such model".
            pools = [pool for pool in self._pools.values() if not pool.seen and pool.may_serve(task.model)]
        if not pools:
            raise self._no_such_model(task)
        able = [pool for pool in pools if pool.ready] or pools
        chosen = choose_pool([(pool.id, pool.settings.weight) for pool in able], task.session_id or task.job_id)
        if chosen is None:
            raise NotReady(f"every pool that serves model {task.model!r} has weight 0; give one some weight")
        return self._pools[chosen]

    def _no_such_model(self, task: TaskRequest) -> ModelNotFound:
        known = sorted({model for pool in self._pools.values() for model in pool.models})
        if task.model in known:
            return ModelNotFound(f"model {task.model!r} has no version {task.model_version!r} on any replica")
        return ModelNotFound(f"no replica has a model {task.model!r}; there are {', '.join(known) or 'none'}")

    def _finish(self, ticket: Ticket, tokens: int) -> None:
        """Count a task out, however it ended. Runs once per task."""
        if ticket.ended:
            return
        ticket.ended = True
        ticket.pool.release(ticket)
        if ticket.terminal is None:
            ticket.terminal = self._terminal_of_the_guard(ticket)
        self._jobs.end(ticket)
        self.metrics.task_ended(ticket, tokens, perf_counter())
        self.plugins.call("worker_adapter_task_ended", task=ticket.task, terminal=ticket.terminal)
        _log_end(ticket, tokens)

    def _terminal_of_the_guard(self, ticket: Ticket) -> End | Error:
        """Return how the submitter's guard ended a task in place of its replica."""
        if self._watchers is None:
            return Error.from_exception(AdapterClosed("the orchestrator was closed", retryable=True))
        if not ticket.cancelled and perf_counter() >= ticket.deadline:
            late = DeadlineExceeded(f"the task did not end within its {ticket.timeout_s:g} s", stage="total")
            return Error.from_exception(late)
        return End(finish_reason="cancelled")

    def _on_started(self, ticket: Ticket, started: Started) -> None:
        self.metrics.task_started(ticket, started)
        self.plugins.call("worker_adapter_task_started", task=ticket.task, started=started)

    def _on_moved(self, ticket: Ticket, replica: Replica, error: Error) -> None:
        self.metrics.task_moved(replica, error)
        _log.warning(
            "job %s moves on from replica %s/%s, which failed before it showed anything: %s",
            ticket.task.job_id, replica.pool_id, replica.id, error.message,
            extra={"job_id": ticket.task.job_id, "replica_id": replica.id, "code": error.code},
        )  # fmt: skip

    def _on_probe(self, pool: Pool, replica: Replica, report: HealthReport, changed: bool) -> None:
        if changed:
            self.plugins.call("worker_adapter_health_changed", pool_id=pool.id, replica_id=replica.id, report=report)
            _log.info(
                "replica %s/%s is %s%s", pool.id, replica.id, replica.health.state,
                f": {report.detail}" if report.detail else "",
                extra={"pool_id": pool.id, "replica_id": replica.id, "engine": replica.engine},
            )  # fmt: skip


def _refused(task: TaskRequest, error: AdapterError) -> TokenStream:
    async def source() -> AsyncIterator[TokenEvent]:
        yield Error.from_exception(error)

    return TokenStream(source(), job_id=task.job_id)


def _log_end(ticket: Ticket, tokens: int) -> None:
    task, terminal, replica = ticket.task, ticket.terminal, ticket.served_by
    outcome = terminal.finish_reason if isinstance(terminal, End) else terminal.code if terminal else "unknown"
    first = ticket.first_token_at
    _log.info(
        "job %s ended (%s) after %d tokens", task.job_id, outcome, tokens,
        extra={
            "job_id": task.job_id, "session_id": task.session_id, "model": task.model, "outcome": outcome,
            "engine": replica.engine if replica else None,
            "engine_version": replica.engine_version if replica else None,
            "pool_id": ticket.pool.id, "replica_id": replica.id if replica else None,
            "queue_position": ticket.queue_position, "predicted_start_ms": ticket.predicted_start_ms,
            "tokens_in": ticket.tokens_in, "tokens_out": tokens, "kv_warmth": ticket.kv_warmth,
            "decode_time_ms": None if first is None else (perf_counter() - first) * 1e3,
        },
    )  # fmt: skip
