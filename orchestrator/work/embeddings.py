"""Embeddings of texts, by inferences on tensors: as many texts in each as the model takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import anyio
import msgspec

from adapter_api import (
    AdapterError,
    Capability,
    DeadlineExceeded,
    InferRequest,
    InvalidRequest,
    ModelProps,
    Overloaded,
    ProtocolViolation,
    Unsupported,
)
from adapter_api.task import new_job_id
from orchestrator.pools.demand import Demand
from orchestrator.pools.embedding import EmbeddingPlan, plan_of, vectors_in
from orchestrator.pools.pool_choice import ServingPools
from orchestrator.pools.replica import Replica
from orchestrator.pools.ticket import Ticket
from orchestrator.pools.told import tell
from orchestrator.work.intake import Intake
from orchestrator.work.ledger import Ledger
from orchestrator.work.tensors import TensorWork, adapter_of, as_taken, run

AT_ONCE = 8
"""Inferences of one request at a time."""
TEXTS_EACH = 256
"""Texts of an inference, where the model takes any number."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts whose embeddings a model is asked for; `dimensions` are the numbers that each is to have."""

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    timeout_s: float | None = None
    session_id: str | None = None
    trace: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"EmbeddingRequest(model={self.model!r}, <{len(self.texts)} texts>)"


class EmbeddingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An embedding for each text, in their order: 32-bit numbers, little-endian."""

    vectors: tuple[bytes, ...]
    tokens: int | None = None
    """What the engine counted of all texts; `None` where it counts nothing."""


class Embeddings:
    """Runs them; `Orchestrator.embed` says what is guaranteed."""

    def __init__(self, intake: Intake, ledger: Ledger, pools: ServingPools) -> None:
        self._intake = intake
        self._ledger = ledger
        self._pools = pools

    async def embed(
        self, request: EmbeddingRequest, owner: str | None, count: Callable[[int], None]
    ) -> EmbeddingAnswer:
        told, plan = await self._look_up(request)
        each = TEXTS_EACH if plan is None else plan.rows_at_once(min(len(request.texts), TEXTS_EACH))
        parts = [request.texts[at : at + each] for at in range(0, len(request.texts), each)]
        count(len(parts))
        found: dict[int, tuple[list[bytes], int | None]] = {}
        failures: list[Exception] = []
        deadline = None if request.timeout_s is None else perf_counter() + request.timeout_s

        places = deque(range(len(parts)))
        workers = min(AT_ONCE, len(parts))

        async def work() -> None:
            nonlocal workers
            while places:
                place = places.popleft()
                try:
                    found[place] = await self._part(request, parts[place], owner, deadline, told)
                except Exception as exc:  # raised below: inside, the group would wrap it
                    if isinstance(exc, Overloaded) and workers > 1:
                        # There is room for less at a time, and the others have it: they do this part as well.
                        places.append(place)
                        break
                    failures.append(exc)
                    group.cancel_scope.cancel()
                    break
            workers -= 1

        async with anyio.create_task_group() as group:
            for _ in range(workers):
                group.start_soon(work)  # each takes the next part
        if failures:
            raise failures[0]
        counts = [found[place][1] for place in range(len(parts))]
        vectors = tuple(vector for place in range(len(parts)) for vector in found[place][0])
        if len({*map(len, vectors)}) > 1:
            raise ProtocolViolation(f"model {request.model!r} gave embeddings of different lengths")
        return EmbeddingAnswer(vectors=vectors, tokens=None if None in counts else sum(filter(None, counts)))

    def can(self, model: str) -> bool | None:
        """Return whether a model has tensors for it; `None` where nobody knows."""
        found = self._pools.model_props(model)
        if found is None:
            return None
        try:
            plan_of(found[1], found[0].embeddings, model)
        except Unsupported:
            return False
        return True

    async def _look_up(self, request: EmbeddingRequest) -> tuple[ModelProps | None, EmbeddingPlan | None]:
        """Return what an engine that does not list its models tells of this one, and how the first pool that is known
        to have it asks it."""
        found = self._pools.model_props(request.model)
        if found is None:
            return await self._pools.ask_for(request.model), None
        plan = plan_of(found[1], found[0].embeddings, request.model)
        if plan.size is not None:
            _require_size(request, plan.size)
        return None, plan

    async def _part(
        self,
        request: EmbeddingRequest,
        texts: Sequence[str],
        owner: str | None,
        deadline: float | None,
        told: ModelProps | None,
    ) -> tuple[list[bytes], int | None]:
        left_s = None if deadline is None else deadline - perf_counter()
        if left_s is not None and left_s <= 0:
            raise DeadlineExceeded(f"the embeddings were not done after {request.timeout_s:g} s", stage="total")
        asked = InferRequest(model=request.model, inputs=(), request_id=new_job_id(), timeout_s=left_s)
        asked = msgspec.structs.replace(asked, **request.trace)
        demand = Demand(model=request.model, needs=frozenset({Capability.TENSORS}))
        ticket = self._intake.admit(TensorWork.of(asked, request.session_id), demand, left_s, owner=owner)
        try:
            asked = msgspec.structs.replace(asked, traceparent=self._ledger.accepted(ticket, asked.traceparent))
            return await run(
                ticket, lambda replica: _ask(ticket, replica, asked, request, texts, told), self._pools.other_for
            )
        except AdapterError as exc:
            raise tell(ticket.failed(exc), ticket)
        finally:
            self._intake.finish(ticket, 0)


async def _ask(
    ticket: Ticket,
    replica: Replica,
    asked: InferRequest,
    request: EmbeddingRequest,
    texts: Sequence[str],
    told: ModelProps | None,
) -> tuple[list[bytes], int | None]:
    """Return the embeddings of the texts as this replica's model gives them: its tensors may have names of their own,
    and it may take fewer at a time than another one."""
    plan = plan_of(replica.model_props(request.model) or told, ticket.pool.settings.embeddings, request.model)
    vectors: list[bytes] = []
    counts: list[int | None] = []
    at_once = plan.rows_at_once(len(texts))
    for at in range(0, len(texts), at_once):
        some = texts[at : at + at_once]
        response = await adapter_of(replica).infer(as_taken(ticket, replica, plan.request(asked, some)))
        try:
            tensor = response[plan.output]
        except KeyError as exc:
            raise ProtocolViolation(f"model {request.model!r} answered without its output {plan.output!r}") from exc
        ticket.version = response.model_version
        vectors += vectors_in(tensor, len(some), request.model)
        _require_size(request, len(vectors[0]) // 4)
        count = response.parameters.get("prompt_tokens")
        counts.append(count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None)
    return vectors, None if None in counts else sum(filter(None, counts))


def _require_size(request: EmbeddingRequest, size: int) -> None:
    if request.dimensions is not None and request.dimensions != size:
        raise InvalidRequest(
            f"'dimensions' is {request.dimensions}, and model {request.model!r} gives {size}; leave it out"
        )
