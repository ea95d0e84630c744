"""Tasks from their submission to their end: taken in, run, cancelled, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from time import perf_counter

import anyio
import msgspec

from adapter_api import AdapterClosed, AdapterError, CancelReceipt, DeadlineExceeded, End, TaskRequest, TokenStream
from orchestrator.held import Held
from orchestrator.pools.demand import Demand
from orchestrator.pools.fleet import Fleet
from orchestrator.pools.pool import Pool
from orchestrator.pools.prompts import Prompts, Unmade
from orchestrator.pools.ticket import Ticket
from orchestrator.rollout.shadow import Shadows
from orchestrator.work.dispatch import Dispatcher
from orchestrator.work.intake import Intake
from orchestrator.work.jobs import Jobs
from orchestrator.work.ledger import Ledger


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

    async def admit(
        self,
        task: TaskRequest,
        *,
        owner: str | None = None,
        held: Held | None = None,
        prompts: Prompts | None = None,
        comes_again: bool = False,
    ) -> TokenStream:
        prompts = prompts or Prompts(task, held)
        accept = partial(
            self._accept, task, owner=owner, pool_id=None, prompts=prompts, held=held, comes_again=comes_again
        )
        try:
            return accept(check=Pool.check)
        except Unmade:  # as for hardly any: nothing was taken yet
            await self._make_prompt(task, owner, prompts)
        return accept(check=_check)

    async def _make_prompt(self, task: TaskRequest, owner: str | None, prompts: Prompts) -> None:
        pool: Pool | None = None
        try:
            pool = self._intake.choose(task, Demand.of(task), owner=owner)
            longest = min(task.timeout_s or inf, pool.settings.queue.timeout_s)
            with anyio.fail_after(longest):
                await pool.make_prompt(task, prompts)
        except AdapterError:
            pass  # for whichever reason it is refused, `accept` says so
        except TimeoutError as exc:
            assert pool is not None
            late = DeadlineExceeded(
                f"the messages were not a prompt within {longest:g} s: many large ones came at once; try again later",
                stage="queue",
            )
            self._ledger.refused(task, pool.id, late, owner)
            raise late from exc

    def accept(
        self,
        task: TaskRequest,
        *,
        owner: str | None = None,
        pool_id: str | None = None,
        prompts: Prompts | None = None,
        held: Held | None = None,
    ) -> TokenStream:
        prompts = prompts or Prompts(task, held)
        return self._accept(task, owner=owner, pool_id=pool_id, prompts=prompts, held=held, check=_check)

    def _accept(
        self,
        task: TaskRequest,
        *,
        owner: str | None,
        pool_id: str | None,
        prompts: Prompts,
        held: Held | None,
        comes_again: bool = False,
        check: Callable[[Pool, TaskRequest, Prompts], None],
    ) -> TokenStream:
        ticket = self._intake.admit(
            task,
            Demand.of(task),
            task.timeout_s,
            owner=owner,
            pool_id=pool_id,
            comes_again=comes_again,
            check=lambda pool: check(pool, task, prompts),
        )
        traceparent = self._ledger.accepted(ticket, task.traceparent)
        if traceparent != task.traceparent:
            task = task.model_copy(update={"traceparent": traceparent})
        batches = self._dispatcher.run(ticket, task, prompts)
        if shadows := self._fleet.shadows_of(ticket.pool.id):
            batches = self._shadows.copies(batches, task, ticket.pool.id, shadows, held)
        stream = TokenStream(
            batches,
            job_id=task.job_id,
            timeout_s=ticket.timeout_s,
            on_finished=lambda stream: self._intake.finish(ticket, stream.outputs, stream.terminal),
            sound=True,  # each replica's stream has its own guard
        )
        # A stream that is dropped unread never runs its generator, so that nothing else would free its place.
        ticket.watch(stream, partial(_soon, asyncio.get_running_loop(), self._intake.finish))
        return stream

    async def cancel(self, job_id: str) -> CancelReceipt:
        began = perf_counter()
        ticket = self._jobs.live(job_id)
        if ticket is None:
            return CancelReceipt(found=False, after_ms=(perf_counter() - began) * 1e3)
        stream = ticket.stream
        if stream is None:  # an inference on tensors, which ends with its caller
            return CancelReceipt(found=True, mode="client_only", after_ms=(perf_counter() - began) * 1e3)
        again, ticket.cancelled = ticket.cancelled, True
        outputs_before = stream.outputs
        adapter = ticket.replica.adapter if ticket.replica is not None else None
        if adapter is not None:
            receipt = await adapter.cancel(job_id)
        else:  # it waits: no engine has heard of it
            receipt = CancelReceipt(found=True, released=True, mode="hard")
        await stream.stop(End(finish_reason="cancelled"))
        receipt = msgspec.structs.replace(
            receipt, found=True, acknowledged=stream.quiet, after_ms=(perf_counter() - began) * 1e3
        )
        if not again:  # whoever asks twice cancels once
            self._ledger.cancelled(ticket, receipt, stream.outputs - outputs_before)
        return receipt

    async def end_all(self) -> None:
        closing = AdapterClosed(
            "the orchestrator was closed before the task had ended; send it again, elsewhere or later", retryable=True
        )
        async with anyio.create_task_group() as stopping:
            for ticket in self._jobs:
                if (stream := ticket.stream) is not None:
                    stopping.start_soon(stream.stop, closing)
                else:
                    ticket.refuse(closing)


def _check(pool: Pool, task: TaskRequest, prompts: Prompts) -> None:
    with suppress(Unmade):  # the task's own stream makes it then, and tells what comes of it
        pool.check(task, prompts)


def _soon(loop: asyncio.AbstractEventLoop, finish: Callable[[Ticket, int], None], ticket: Ticket) -> None:
    """Finish in the event loop: that a stream was dropped is noticed wherever the garbage collector runs, be it another
    thread, or the middle of something else."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(finish, ticket, 0)
