"""Tasks from their submission to their end: taken in, run, cancelled, closed."""

from __future__ import annotations

import weakref
from time import perf_counter

import anyio
import msgspec

from adapter_api import AdapterClosed, CancelReceipt, End, TaskRequest, TokenStream
from orchestrator.dispatch import Dispatcher
from orchestrator.fleet import Fleet
from orchestrator.intake import Intake
from orchestrator.jobs import Jobs
from orchestrator.ledger import Ledger
from orchestrator.shadow import Shadows


class Tasks:
    """Runs tasks; the `Orchestrator`'s methods of the same names say what is guaranteed."""

    def __init__(
        self, fleet: Fleet, intake: Intake, jobs: Jobs, ledger: Ledger, dispatcher: Dispatcher, shadows: Shadows
    ) -> None:
        self._fleet = fleet
        self._intake = intake
        self._jobs = jobs
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._shadows = shadows

    def accept(self, task: TaskRequest, *, owner: str | None = None, pool_id: str | None = None) -> TokenStream:
        ticket = self._intake.admit(
            task,
            task.timeout_s,
            owner=owner,
            pool_id=pool_id,
            suits=lambda pool: pool.suits(task),
            check=lambda pool: pool.check(task),
        )
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
            on_finished=lambda stream: self._intake.finish(ticket, stream.tokens),
        )
        ticket.stream = stream
        # A stream that is dropped unread never runs its generator, so that nothing else would free its place.
        weakref.finalize(stream, self._intake.finish, ticket, 0).atexit = False
        return stream

    async def cancel(self, job_id: str) -> CancelReceipt:
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

    async def end_all(self) -> None:
        closing = AdapterClosed("the orchestrator was closed while the task was running", retryable=True)
        async with anyio.create_task_group() as stopping:
            for ticket in self._jobs:
                if (stream := ticket.stream) is not None:
                    stopping.start_soon(stream.stop, closing)
