"""Running one inference on tensors: a slot, then the replica's answer; moved on only when it provably did not run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from time import perf_counter
from typing import TypeVar

import anyio
import msgspec

from adapter_api import (
    AdapterClosed,
    AdapterError,
    Capability,
    DeadlineExceeded,
    End,
    Error,
    InferRequest,
    InferResponse,
    NotReady,
    Priority,
    WorkerAdapter,
    judge,
)
from adapter_api.task import TraceHeaders
from orchestrator.pools.demand import Demand
from orchestrator.pools.pool import Pool
from orchestrator.pools.replica import Replica
from orchestrator.pools.ticket import Ticket
from orchestrator.pools.told import tell
from orchestrator.work.intake import Intake
from orchestrator.work.ledger import Ledger

T = TypeVar("T")
_SHORTEST_S = 1e-6
"""What engines count in."""
OtherPool = Callable[[Ticket], Pool | None]
"""Names another pool for what a pool cannot run."""


class TensorWork(msgspec.Struct, frozen=True, kw_only=True):
    """An inference on tensors, as work; a sequence is its session, else the caller's."""

    job_id: str
    model: str
    model_version: str | None = None
    priority: Priority = "interactive"
    session_id: str | None = None
    trace_headers: TraceHeaders = ()

    @classmethod
    def of(cls, request: InferRequest, session_id: str | None) -> TensorWork:
        return cls(
            job_id=request.request_id,
            model=request.model,
            model_version=request.model_version,
            session_id=session_id if request.sequence is None else f"sequence:{request.sequence.id}",
            trace_headers=request.trace_headers,
        )


class Tensors:
    """Takes inferences in and runs them; the `Orchestrator`'s methods of the same names say what is guaranteed."""

    def __init__(self, intake: Intake, ledger: Ledger, other_pool: OtherPool) -> None:
        self._intake = intake
        self._ledger = ledger
        self._other_pool = other_pool

    async def infer(self, request: InferRequest, owner: str | None, session_id: str | None) -> InferResponse:
        ticket = self._admit(request, owner, session_id, Capability.TENSORS)
        try:
            return await infer(ticket, self._traced(ticket, request), self._other_pool)
        except AdapterError as exc:
            raise tell(ticket.failed(exc), ticket)
        finally:
            self._intake.finish(ticket, 0)

    async def infer_stream(
        self, request: InferRequest, owner: str | None, session_id: str | None
    ) -> AsyncIterator[InferResponse]:
        ticket = self._admit(request, owner, session_id, Capability.TENSORS, Capability.TENSOR_STREAM)
        try:
            async with aclosing(infer_stream(ticket, self._traced(ticket, request), self._other_pool)) as responses:
                async for response in responses:
                    yield response
        except AdapterError as exc:
            raise tell(ticket.failed(exc), ticket)
        finally:
            self._intake.finish(ticket, 0)

    def _admit(self, request: InferRequest, owner: str | None, session_id: str | None, *needs: Capability) -> Ticket:
        bound = request.sequence is not None and not request.sequence.start
        demand = Demand(model=request.model, model_version=request.model_version, needs=frozenset(needs))
        return self._intake.admit(
            TensorWork.of(request, session_id), demand, request.timeout_s, owner=owner, bound=bound,
            queue_timeout_s=request.queue_timeout_s,
        )  # fmt: skip

    def _traced(self, ticket: Ticket, request: InferRequest) -> InferRequest:
        return msgspec.structs.replace(request, traceparent=self._ledger.accepted(ticket, request.traceparent))


async def infer(ticket: Ticket, request: InferRequest, other_pool: OtherPool) -> InferResponse:
    """Return the one response; raises `AdapterError`. The ticket is released whatever happens."""

    async def ask(replica: Replica) -> InferResponse:
        response = await adapter_of(replica).infer(as_taken(ticket, replica, request))
        ticket.version = response.model_version
        return as_asked(response, request)

    return await run(ticket, ask, other_pool)


async def run(ticket: Ticket, ask: Callable[[Replica], Awaitable[T]], other_pool: OtherPool) -> T:
    """Return what asking a replica returns; raises `AdapterError`. The ticket is released whatever happens.

    Args:
        ticket: A place in a pool.
        ask: Asks a replica, and raises `AdapterError`; if that provably reached no engine, it may be called again, with
            another replica.
        other_pool: Names another pool for what the ticket's cannot run.
    """
    with anyio.move_on_after(ticket.remaining_s) as ticket.scope:
        while True:
            replica = await _granted(ticket, other_pool)
            ticket.attempts += 1
            began = perf_counter()
            try:
                answer = await ask(replica)
            except AdapterError as exc:
                if not _failed(ticket, replica, exc, other_pool):
                    raise
                _move(ticket, other_pool)
            else:
                _succeeded(ticket, began)
                return answer
    ticket.raise_refusal()
    raise _out_of_time(ticket)


async def infer_stream(ticket: Ticket, request: InferRequest, other_pool: OtherPool) -> AsyncGenerator[InferResponse]:
    """Yield the responses as they arrive; raises like `infer`. Before the first one the inference may move on."""
    while True:
        with anyio.move_on_after(ticket.remaining_s):
            await _granted(ticket, other_pool)
        replica = ticket.replica
        if replica is None:
            raise _out_of_time(ticket)
        ticket.attempts += 1
        began = perf_counter()
        try:
            async with adapter_of(replica).infer_stream(as_taken(ticket, replica, request)) as stream:
                async for response in stream:
                    ticket.shown = True
                    ticket.version = response.model_version
                    yield as_asked(response, request)
            _succeeded(ticket, began)
            return
        except AdapterError as exc:
            if not _failed(ticket, replica, exc, other_pool):
                raise
            _move(ticket, other_pool)


def adapter_of(replica: Replica) -> WorkerAdapter:
    """Return the open adapter of a replica; raises `AdapterClosed` where it was closed in the meantime."""
    if replica.adapter is None:
        raise AdapterClosed(f"replica {replica.id!r} was just closed", retryable=True)
    return replica.adapter


def as_taken(ticket: Ticket, replica: Replica, request: InferRequest) -> InferRequest:
    """Return the request for one more attempt: by the name that the replica's engine has for its model."""
    props = replica.model_props(request.model)
    if props is not None and props.max_batch_size and request.inputs and request.inputs[0].shape:
        ticket.rows = max(1, request.inputs[0].shape[0])
    model = replica.names.own(request.model) or request.model
    queue_timeout_s = request.queue_timeout_s
    if queue_timeout_s is not None:  # what is left of it is for the engine's own line
        queue_timeout_s = max(queue_timeout_s - ticket.waited_s, _SHORTEST_S)
    return msgspec.structs.replace(request, model=model, timeout_s=ticket.remaining_s, queue_timeout_s=queue_timeout_s)


def as_asked(response: InferResponse, request: InferRequest) -> InferResponse:
    """Return the response under the name of the model that was asked for."""
    return response if response.model == request.model else msgspec.structs.replace(response, model=request.model)


def _succeeded(ticket: Ticket, began: float) -> None:
    ticket.pool.observe_task_s(perf_counter() - began)
    ticket.terminal = End(finish_reason="stop")
    ticket.pool.learn(ticket, ticket.terminal)


def _failed(ticket: Ticket, replica: Replica, exc: AdapterError, other_pool: OtherPool) -> bool:
    """Note a failure; returns whether the inference may be tried elsewhere.

    Only one that no engine has run: it may be anything, a stateful model, a part of a sequence.
    """
    error = Error.from_exception(exc)
    ticket.pool.learn(ticket, error)
    judgement = judge(error)
    if judgement.unsent and judgement.moves_task(error) and not ticket.shown and not ticket.bound:
        if ticket.attempts < ticket.pool.settings.retry.attempts:
            ticket.avoid.add(replica.id)
            if ticket.pool.has_other(ticket) or other_pool(ticket) is not None:
                return True
    return False


def _move(ticket: Ticket, other_pool: OtherPool) -> None:
    if not ticket.pool.has_other(ticket) and (other := other_pool(ticket)) is not None:
        ticket.go_to(other)
        return
    ticket.pool.release(ticket)
    ticket.pool.rejoin(ticket)


async def _granted(ticket: Ticket, other_pool: OtherPool) -> Replica:
    while True:
        try:
            return await ticket.pool.grant(ticket)
        except NotReady:
            if (other := other_pool(ticket)) is None:
                raise
            ticket.go_to(other)


def _out_of_time(ticket: Ticket) -> DeadlineExceeded:
    took = perf_counter() - ticket.arrived
    return DeadlineExceeded(f"the inference was not done after {took:.3g} s, which was all its time", stage="total")
