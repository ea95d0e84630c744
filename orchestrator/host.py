"""The orchestrator itself: pools, tickets, dispatch and watchers joined."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from random import Random
from time import monotonic, perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import msgspec
from prometheus_client import CollectorRegistry

from adapter_api import (
    AdapterClosed,
    AdapterError,
    CancelReceipt,
    DeadlineExceeded,
    End,
    Error,
    HealthReport,
    InferRequest,
    InferResponse,
    ModelNotFound,
    ModelProps,
    NotReady,
    PluginHost,
    TaskRequest,
    TensorStream,
    TokenEvent,
    TokenStream,
    load_plugins,
)
from orchestrator import tensors
from orchestrator.dispatch import Dispatcher
from orchestrator.fleet import DrainReport, Fleet, ReloadReport
from orchestrator.jobs import Jobs
from orchestrator.ledger import Ledger
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.pools import Pool
from orchestrator.rollout import RolloutReport
from orchestrator.routing import choose_pool
from orchestrator.sessions import Affinity
from orchestrator.settings import OrchestratorSettings, PoolSettings
from orchestrator.shadow import Shadows
from orchestrator.status import PoolStatus, TaskStatus
from orchestrator.ticket import TensorWork, Ticket, Work

if TYPE_CHECKING:
    from orchestrator.tracing import Tracing


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
        tracing: Makes a span of each task; none are made when absent.
    """

    def __init__(
        self, settings: OrchestratorSettings, *, plugins: PluginHost | None = None, tracing: Tracing | None = None
    ) -> None:
        self.plugins = plugins if plugins is not None else load_plugins()
        self.metrics = OrchestratorMetrics()
        self._affinity = Affinity(settings.sessions, monotonic)
        self._jobs = Jobs(settings.retained_jobs)
        self._ledger = Ledger(self._jobs, self.metrics, self.plugins, tracing)
        self._dispatcher = Dispatcher(on_started=self._ledger.started, on_moved=self._ledger.moved, random=Random())
        self._fleet = Fleet(settings, self.plugins, self._affinity, self._ledger.probed)
        self.metrics.add_collectors([self._fleet.engine_metrics])
        self._shadows = Shadows(lambda task, pool_id: self.accept(task, pool_id=pool_id))
        self._exit = AsyncExitStack()
        self._open = False

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open every adapter and probe it once.

        Raises:
            ConfigurationError: A pool names an adapter there is not, or options that it does not take.
        """
        for collectors in self.plugins.call("worker_adapter_collectors"):
            self.metrics.add_collectors(collectors)
        watchers = await self._exit.enter_async_context(anyio.create_task_group())
        try:
            await self._fleet.open(watchers)
        except BaseException:
            self._fleet.close()
            await self._exit.aclose()
            raise
        self._shadows.group = watchers
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        with anyio.CancelScope(shield=True):
            await self.end_tasks()
            self._fleet.close()
        # Without the body's exception: a task group would wrap it.
        await self._exit.aclose()

    async def end_tasks(self) -> None:
        """End every live task with one `Error` of code `closed`. Closing does so by itself."""
        closing = AdapterClosed("the orchestrator was closed while the task was running", retryable=True)
        async with anyio.create_task_group() as stopping:
            for ticket in self._jobs:
                if (stream := ticket.stream) is not None:
                    stopping.start_soon(stream.stop, closing)

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

    def accept(self, task: TaskRequest, *, owner: str | None = None, pool_id: str | None = None) -> TokenStream:
        """Return the task's stream like `submit`, or raise why the task is not even queued.

        Args:
            task: What to run.
            owner: Who submits it; kept with the job.
            pool_id: Run it in this pool rather than where the weights send it.

        Raises:
            JobConflict: Its `job_id` was accepted before.
            ModelNotFound: No replica has the model.
            InvalidRequest: It asks for more than the model takes.
            Overloaded: The queue is full.
            NotReady: The pool is draining, or has no weight.
            AdapterClosed: The orchestrator is not open.
        """
        ticket = self._admit(task, task.timeout_s, lambda pool: pool.check(task), owner=owner, pool_id=pool_id)
        traceparent = self._ledger.accepted(ticket, task.traceparent)
        if traceparent != task.traceparent:
            task = task.model_copy(update={"traceparent": traceparent})
        batches = self._dispatcher.run(ticket, task)
        if shadows := self._fleet.shadows_of(ticket.pool.id):
            batches = self._shadows.copies(batches, task, ticket.pool.id, shadows)
        stream = TokenStream(
            batches,
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
        self._ledger.cancelled(ticket, receipt, stream.tokens - tokens_before if stream is not None else 0)
        return receipt

    def task(self, job_id: str) -> TaskStatus | None:
        """Return how a task is or how it ended; `None` when nothing is known of it (any more)."""
        return self._jobs.status(job_id)

    @property
    def live_tasks(self) -> tuple[TaskStatus, ...]:
        """The tasks that wait or run, in the order of their arrival."""
        return tuple(status for ticket in self._jobs if (status := self._jobs.status(ticket.work.job_id)) is not None)

    def recent_errors(self, limit: int = 20) -> list[TaskStatus]:
        """Return the last tasks that ended in an error, newest first."""
        return self._jobs.recent_errors(limit)

    def forget_session(self, session_id: str) -> None:
        """Forget which replicas served a session."""
        self._affinity.forget(session_id)

    # -- tensors ------------------------------------------------------------------------------------------------------

    async def infer(self, request: InferRequest, *, owner: str | None = None) -> InferResponse:
        """Run one inference on a ready replica and return its one response.

        It is tried elsewhere only when it provably did not run; a sequence stays at the replica that has it.

        Raises:
            AdapterError: As `accept` refuses a task, or as the adapter failed.
        """
        ticket = self._admit_tensors(request, owner)
        try:
            return await tensors.infer(ticket, self._traced(ticket, request))
        finally:
            self._finish(ticket, 0)

    def infer_stream(self, request: InferRequest, *, owner: str | None = None) -> TensorStream:
        """Return the responses of one inference as they arrive; iterating raises like `infer`, closing cancels."""

        async def source() -> AsyncIterator[InferResponse]:
            ticket = self._admit_tensors(request, owner)
            try:
                async for response in tensors.infer_stream(ticket, self._traced(ticket, request)):
                    yield response
            finally:
                self._finish(ticket, 0)

        return TensorStream(source())

    # -- pools --------------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> OrchestratorSettings:
        """The settings in force."""
        return self._fleet.settings

    @property
    def pools(self) -> tuple[PoolStatus, ...]:
        """Every pool as it is now."""
        return tuple(pool.status() for pool in self._fleet.pools.values())

    @property
    def ready(self) -> bool:
        """Whether any pool takes work."""
        return self._open and any(pool.ready for pool in self._serving_pools)

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that replicas were last known to have."""
        return tuple(sorted({model for pool in self._serving_pools for model in pool.models}))

    def model_props(self, model: str) -> tuple[PoolSettings, ModelProps] | None:
        """Return what a replica told of a model, with the settings of its pool; `None` when none told anything."""
        for pool in self._serving_pools:
            for replica in pool.replicas.values():
                if pool.may_serve(model) and (props := replica.model_props(model)) is not None:
                    return pool.settings, props
        return None

    def model_is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether a replica takes work for the model now."""
        return any(
            pool.may_serve(model)
            and any(
                not pool.why_no_work(replica)
                and replica.has_model(model, version)
                and replica.model_is_ready(model, version)
                for replica in pool.replicas.values()
            )
            for pool in self._serving_pools
        )

    async def health(self, pool_id: str, replica_id: str, *, canary: bool = False) -> HealthReport:
        """Return what a probe finds now; raises `KeyError` for a replica there is not."""
        replica = self._fleet.require(pool_id, replica_id).replicas[replica_id]
        if replica.adapter is None:
            return replica.report or HealthReport(state=replica.health.state, live=False, ready=False)
        return await replica.adapter.health(canary=canary)

    def require_pool(self, pool_id: str) -> None:
        """Raise `KeyError`, naming those there are, when there is no such pool."""
        self._fleet.require(pool_id)

    def rollout_report(self) -> RolloutReport:
        """Return the last tasks of every pool side by side, and how shadows agree with what they shadow."""
        pools = [pool.settings for pool in self._fleet.pools.values()]
        figures = self._ledger.figures
        return RolloutReport(
            pools=tuple(figures.of(pool.id, pool.weight, pool.shadow_of) for pool in pools),
            agreements=tuple(
                self._shadows.comparisons(pool.shadow_of, pool.id).agreement(pool.shadow_of, pool.id)
                for pool in pools
                if pool.shadow_of is not None
            ),
        )

    def collect_metrics(self) -> CollectorRegistry:
        """Return the registry of all metrics, brought up to date."""
        self.metrics.refresh(self._fleet.pools.values())
        return self.metrics.registry

    async def drain(self, pool_id: str, replica_id: str | None = None, *, timeout_s: float = 0.0) -> DrainReport:
        """Send nothing new there, and wait up to `timeout_s` for what runs; `resume` takes it back.

        Raises:
            KeyError: There is no such pool or replica.
        """
        return await self._fleet.drain(pool_id, replica_id, timeout_s=timeout_s)

    def resume(self, pool_id: str, replica_id: str | None = None) -> None:
        """Take a drain back; raises `KeyError` when there is no such pool or replica."""
        self._fleet.resume(pool_id, replica_id)

    async def reload(self, settings: OrchestratorSettings) -> ReloadReport:
        """Go over to new settings, all of them or none; tasks go on. See `Fleet.reload`."""
        return await self._fleet.reload(settings)

    async def revert(self, pool_id: str) -> ReloadReport:
        """Go back to the settings that a pool had before its last reload."""
        return await self._fleet.revert(pool_id)

    @property
    def _serving_pools(self) -> list[Pool]:
        """The pools whose answers are shown."""
        return [pool for pool in self._fleet.pools.values() if pool.settings.shadow_of is None]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _admit_tensors(self, request: InferRequest, owner: str | None) -> Ticket:
        bound = request.sequence is not None and not request.sequence.start
        return self._admit(TensorWork.of(request), request.timeout_s, lambda pool: None, owner=owner, bound=bound)

    def _traced(self, ticket: Ticket, request: InferRequest) -> InferRequest:
        traceparent = self._ledger.accepted(ticket, request.traceparent)
        return msgspec.structs.replace(request, traceparent=traceparent)

    def _admit(
        self,
        work: Work,
        timeout_s: float | None,
        check: Callable[[Pool], None],
        *,
        owner: str | None = None,
        pool_id: str | None = None,
        bound: bool = False,
    ) -> Ticket:
        pool: Pool | None = None
        try:
            if not self._open:
                raise AdapterClosed("the orchestrator is not open: use `async with orchestrator:`")
            self._jobs.require_new(work.job_id)
            pool = self._fleet.require(pool_id) if pool_id is not None else self._choose_pool(work)
            check(pool)
            ticket = Ticket(work, pool, timeout_s or pool.settings.task_timeout_s, owner=owner, bound=bound)
            pool.admit(ticket)
        except AdapterError as exc:
            self._ledger.refused(work, pool.id if pool is not None else "", exc)
            raise
        self._jobs.add(ticket)
        return ticket

    def _choose_pool(self, work: Work) -> Pool:
        all_pools = self._serving_pools
        pools = [pool for pool in all_pools if pool.has_model(work.model, work.model_version)]
        if not pools:
            # A pool whose engines were never reached may have it: better "not ready" than "no such model".
            pools = [pool for pool in all_pools if not pool.seen and pool.may_serve(work.model)]
        if not pools:
            raise self._no_such_model(work)
        # A pool of weight 0 gets nothing, also when it alone is ready: tasks wait for the others then.
        able = [pool for pool in pools if pool.ready and pool.settings.weight] or pools
        chosen = choose_pool([(pool.id, pool.settings.weight) for pool in able], work.session_id or work.job_id)
        if chosen is None:
            raise NotReady(f"every pool that serves model {work.model!r} has weight 0; give one some weight")
        return self._fleet.pools[chosen]

    def _no_such_model(self, work: Work) -> ModelNotFound:
        known = self.models()
        if work.model in known:
            return ModelNotFound(f"model {work.model!r} has no version {work.model_version!r} on any replica")
        return ModelNotFound(f"no replica has a model {work.model!r}; there are {', '.join(known) or 'none'}")

    def _finish(self, ticket: Ticket, tokens: int) -> None:
        """Count a task out, however it ended. Does so once per task."""
        if ticket.ended:
            return
        ticket.ended = True
        ticket.pool.release(ticket)
        if ticket.terminal is None:
            ticket.terminal = self._terminal_of_the_guard(ticket)
        self._ledger.ended(ticket, tokens)

    def _terminal_of_the_guard(self, ticket: Ticket) -> End | Error:
        """Return how the submitter's guard ended a task in place of its replica."""
        if not self._open:
            return Error.from_exception(AdapterClosed("the orchestrator was closed", retryable=True))
        if not ticket.cancelled and perf_counter() >= ticket.deadline:
            late = DeadlineExceeded(f"the task did not end within its {ticket.timeout_s:g} s", stage="total")
            return Error.from_exception(late)
        return End(finish_reason="cancelled")


def _refused(task: TaskRequest, error: AdapterError) -> TokenStream:
    async def source() -> AsyncIterator[TokenEvent]:
        yield Error.from_exception(error)

    return TokenStream(source(), job_id=task.job_id)
