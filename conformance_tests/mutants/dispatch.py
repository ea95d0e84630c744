"""ORCH-3055: how a task gets to an engine."""

from __future__ import annotations

import codecs

import anyio
import msgspec

from adapter_api import (
    Capability,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    Started,
    TaskRequest,
    TokenStream,
    Unsupported,
    WorkerAdapter,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Job, Order, Piece


def _raises_at_once(self: WorkerAdapter, task: TaskRequest) -> TokenStream:
    assert isinstance(self, ReferenceAdapter)
    if task.model not in self.server.models:
        raise ModelNotFound(f"no model {task.model!r}")
    return WorkerAdapter.submit(self, task)


@breaks("ORCH-3055-001", final={"submit": _raises_at_once})
class RaisesAtOnce(ReferenceAdapter):
    """Raises from `submit` what belongs into the stream."""


def _forgets_the_running(self: WorkerAdapter, task: TaskRequest) -> TokenStream:
    self._streams.pop(task.job_id, None)
    return WorkerAdapter.submit(self, task)


@breaks("ORCH-3055-003", final={"submit": _forgets_the_running})
class TakesAJobTwice(ReferenceAdapter):
    """Runs a second task of a running job."""


@breaks("ORCH-3055-004")
class MixesUp(ReferenceAdapter):
    """Hands out the tokens of another task when many run."""

    async def _next(self, job: Job) -> Piece | None:
        if len(self.jobs) > 8:
            job = next(iter(self.jobs.values()))
        return await super()._next(job)


@breaks("ORCH-3055-004")
class RemembersTheLast(ReferenceAdapter):
    """Names the job that began last in the started event of every task."""

    last = ""

    async def _begin(self, task: TaskRequest) -> Job:
        self.last = task.job_id
        return await super()._begin(task)

    def _started(self, task: TaskRequest) -> Started:
        crowded = len(self.live_jobs) > 8
        return msgspec.structs.replace(super()._started(task), job_id=self.last if crowded else task.job_id)


@breaks("ORCH-3055-005")
class Jams(ReferenceAdapter):
    """Never begins a task when many run."""

    async def _begin(self, task: TaskRequest) -> Job:
        if task.max_tokens == 8 and len(self.live_jobs) > 15:
            await anyio.sleep_forever()
        return await super()._begin(task)


@breaks("ORCH-3055-006")
class BlamesTheRequest(ReferenceAdapter):
    """Calls an unknown model an invalid request."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except ModelNotFound as exc:
            raise InvalidRequest(exc.message) from exc.__cause__


class _Drops(ReferenceAdapter):
    """Drops what it does not declare, in silence."""

    def _check(self, task: TaskRequest) -> None:
        for name in task.parameters_for(self.engine):
            raise InvalidRequest(f"no parameter {name!r}")


for _capability in (
    Capability.MESSAGES, Capability.IMAGES, Capability.STOP, Capability.SEED, Capability.LOGPROBS,
    Capability.RESPONSE_FORMAT, Capability.TOOLS,
):  # fmt: skip
    breaks("ORCH-3055-007", without={_capability})(type(f"Drops{_capability.title()}", (_Drops,), {}))


@breaks("ORCH-3055-007", without={Capability.TOOLS})
class RefusesVaguely(ReferenceAdapter):
    """Refuses what it does not declare, as an invalid request."""

    def _check(self, task: TaskRequest) -> None:
        try:
            super()._check(task)
        except Unsupported as exc:
            raise InvalidRequest(exc.message) from None


@breaks("ORCH-3055-008")
class WantsNoParameters(ReferenceAdapter):
    """Refuses the parameters of other engines."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.parameters:
            raise InvalidRequest("no parameters, please")


@breaks("ORCH-3055-009")
class PassesOverParameters(ReferenceAdapter):
    """Passes over a misspelt parameter of its own."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task.model_copy(update={"parameters": {}}))


@breaks("ORCH-3055-009")
class NamesNoParameter(ReferenceAdapter):
    """Refuses a misspelt parameter of its own without naming it."""

    def _check(self, task: TaskRequest) -> None:
        if task.parameters_for(self.engine):
            raise InvalidRequest("a parameter is wrong")
        super()._check(task)


@breaks("ORCH-3055-036")
class WantsNoTrace(ReferenceAdapter):
    """Refuses a trace context."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.traceparent is not None:
            raise InvalidRequest("traceparent is not known here")


@breaks("ORCH-3055-036")
class WantsNoBatch(ReferenceAdapter):
    """Refuses the lower priority."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.priority == "batch":
            raise Unsupported("priorities are not known here")


@breaks("ORCH-3055-038")
class SharesItsDecoder(ReferenceAdapter):
    """Has one decoder for all tasks, which fails on characters that come interleaved."""

    decoder: codecs.IncrementalDecoder | None = None

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        self.decoder = self.decoder or decoder
        return super()._decode(self.decoder, piece)


@breaks("ORCH-3055-038")
class CountsWrongly(ReferenceAdapter):
    """Takes itself for full long before it is, and blames the engine."""

    async def _begin(self, task: TaskRequest) -> Job:
        if task.max_tokens == 8 and task.seed is None and len(self.live_jobs) > 8:
            raise EngineFailed("the answer is not the one that was expected")
        return await super()._begin(task)


@breaks("ORCH-3055-039")
class NeedsALimit(ReferenceAdapter):
    """Computes with `max_tokens` where there is none."""

    def _order(self, task: TaskRequest) -> Order:
        if task.max_tokens is None:
            raise TypeError("'<' not supported between instances of 'int' and 'NoneType'")
        return super()._order(task)
