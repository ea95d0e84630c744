"""ORCH-3060: cancelling a task."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from adapter_api import (
    CancelReceipt,
    Capability,
    DeadlineExceeded,
    End,
    TaskRequest,
    TokenEvent,
    TokenStream,
    WorkerAdapter,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Job, Mode, Piece


def _stream_of(adapter: WorkerAdapter, job_id: str) -> TokenStream | None:
    return adapter._streams.get(job_id)


async def _calls_it_a_stop(self: WorkerAdapter, job_id: str) -> CancelReceipt:
    stream = _stream_of(self, job_id)
    if stream is None or not stream.tokens:
        return await WorkerAdapter.cancel(self, job_id)
    receipt = await self._cancel(job_id)
    await stream.stop(End(finish_reason="stop"))
    return msgspec.structs.replace(receipt, acknowledged=True)


@breaks("ORCH-3060-001", final={"cancel": _calls_it_a_stop})
class CallsItAStop(ReferenceAdapter):
    """Ends a cancelled task as if its model had ended it."""


async def _acknowledges_early(self: OneMoreToken, job_id: str) -> CancelReceipt:
    stream = _stream_of(self, job_id)
    if stream is None or not stream.tokens:
        return await WorkerAdapter.cancel(self, job_id)
    self.told.add(job_id)
    return msgspec.structs.replace(await self._cancel(job_id), acknowledged=True)


class OneMoreToken(ReferenceAdapter):
    """Acknowledges a cancel and delivers one token more."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.told: set[str] = set()

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                yield event
                if task.job_id in self.told:
                    yield End(finish_reason="cancelled")
                    return


breaks("ORCH-3060-002", final={"cancel": _acknowledges_early})(OneMoreToken)


class _Remembering(ReferenceAdapter):
    """Knows the jobs that it has had."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.past: set[str] = set()

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        super()._let_go(task, job)
        self.past.add(task.job_id)


async def _finds_what_never_was(self: _Remembering, job_id: str) -> CancelReceipt:
    receipt = await WorkerAdapter.cancel(self, job_id)
    return receipt if job_id in self.past else msgspec.structs.replace(receipt, found=True)


@breaks("ORCH-3060-003", final={"cancel": _finds_what_never_was})
class FindsWhatNeverWas(_Remembering):
    """Finds jobs that there never were."""


async def _finds_what_is_over(self: _Remembering, job_id: str) -> CancelReceipt:
    receipt = await WorkerAdapter.cancel(self, job_id)
    return msgspec.structs.replace(receipt, found=True) if job_id in self.past else receipt


@breaks("ORCH-3060-004", final={"cancel": _finds_what_is_over})
class FindsWhatIsOver(_Remembering):
    """Finds jobs that are over."""


async def _ends_again(self: EndsAgain, job_id: str) -> CancelReceipt:
    stream = _stream_of(self, job_id)
    if stream is not None:
        self.cancelled[job_id] = stream
        return await WorkerAdapter.cancel(self, job_id)
    if job_id in self.cancelled:
        self.cancelled.pop(job_id)._ready.append(End(finish_reason="cancelled"))
    return CancelReceipt(found=False)


class EndsAgain(ReferenceAdapter):
    """Ends a task once more when it is cancelled once more."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cancelled: dict[str, TokenStream] = {}


breaks("ORCH-3060-005", final={"cancel": _ends_again})(EndsAgain)


async def _misses_the_unread(self: WorkerAdapter, job_id: str) -> CancelReceipt:
    stream = _stream_of(self, job_id)
    if stream is not None and not stream._grammar.started and not stream._reading:
        return CancelReceipt(found=True, acknowledged=True, mode="client_only")
    return await WorkerAdapter.cancel(self, job_id)


@breaks("ORCH-3060-006", final={"cancel": _misses_the_unread})
class MissesTheUnread(ReferenceAdapter):
    """Misses a task that nobody has read from yet."""


class _Flagging(ReferenceAdapter):
    """Knows which jobs were cancelled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cancelled: set[str] = set()

    async def _cancel(self, job_id: str) -> CancelReceipt:
        self.cancelled.add(job_id)
        return await super()._cancel(job_id)


@breaks("ORCH-3060-007")
class RaisesAtTheEnd(_Flagging):
    """Raises when a short task is cancelled."""

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        super()._let_go(task, job)
        if task.job_id in self.cancelled and task.max_tokens == 8:
            raise RuntimeError("the call is done already")


@breaks("ORCH-3060-008")
class CancelsEverybody(ReferenceAdapter):
    """Cancels by closing the connection that all tasks share."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        receipt = await super()._cancel(job_id)
        self.server.drop_streams()
        return receipt


@breaks("ORCH-3060-008")
class CancelsTheOldest(ReferenceAdapter):
    """Stops the job that has run longest."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        receipt = await super()._cancel(job_id)
        if job_id in self.jobs and len(self.jobs) < 5:
            next(iter(self.jobs.values())).broken = True
        return receipt


async def _loses_ends(self: WorkerAdapter, job_id: str) -> CancelReceipt:
    stream = _stream_of(self, job_id)
    if stream is None or len(self.live_jobs) < 15:
        return await WorkerAdapter.cancel(self, job_id)
    stream._finished = True
    return CancelReceipt(found=True, acknowledged=True, mode="hard")


@breaks("ORCH-3060-009", final={"cancel": _loses_ends})
class LosesEnds(ReferenceAdapter):
    """Loses the ends of tasks when many are cancelled at once."""


@breaks("ORCH-3060-010")
class SkipsAfterACancel(ReferenceAdapter):
    """Takes the first token after a cancel for one of the cancelled task."""

    skip = False

    async def _cancel(self, job_id: str) -> CancelReceipt:
        self.skip = True
        return await super()._cancel(job_id)

    async def _next(self, job: Job) -> Piece | None:
        if self.skip:
            self.skip = False
            await super()._next(job)
        return await super()._next(job)


@breaks("ORCH-3060-011")
class WaitsForTheEngine(ReferenceAdapter):
    """Waits until an engine that hangs has taken note of a cancel."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        if self.server.mode is Mode.PAUSED and job_id in self.jobs:
            with anyio.move_on_after(30, shield=True):
                await self.server.answer()
        return await super()._cancel(job_id)


@breaks("ORCH-3060-012")
class HasNoMode(ReferenceAdapter):
    """Does not say what a cancel can do."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        return msgspec.structs.replace(await super()._cancel(job_id), mode=None)


@breaks("ORCH-3060-013", without={Capability.CANCEL_HARD})
class ClaimsAHardCancel(ReferenceAdapter):
    """Claims a hard cancel that it does not declare."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        return CancelReceipt(found=True, sent=True, mode="hard")


class _Keeping(ReferenceAdapter):
    """Does not stop some tasks in the engine."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cancelled: set[str] = set()

    def _keeps(self, task: TaskRequest) -> bool:
        return False

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        if self._keeps(task):
            self.jobs.pop(task.job_id, None)
        else:
            super()._let_go(task, job)

    def _out_of_time(self, task: TaskRequest) -> bool:
        # Not by the clock: the guard's is the real one, and that of a trial is not.
        return task.timeout_s is not None and sys.exc_info()[0] is anyio.get_cancelled_exc_class()


@breaks("ORCH-3060-014")
class OnlyStopsListening(_Keeping):
    """Declares hard cancels and only stops listening."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        self.cancelled.add(job_id)
        return CancelReceipt(found=True, mode="hard")

    def _keeps(self, task: TaskRequest) -> bool:
        return task.job_id in self.cancelled


@breaks("ORCH-3060-015")
class MissesTheScope(_Keeping):
    """Does not notice that its reader was cancelled."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        self.cancelled.add(job_id)
        return await super()._cancel(job_id)

    def _keeps(self, task: TaskRequest) -> bool:
        by_scope = sys.exc_info()[0] is anyio.get_cancelled_exc_class() and self._lifecycle == "open"
        return by_scope and task.job_id not in self.cancelled and not self._out_of_time(task)


@breaks("ORCH-3060-016")
class NamesAnotherStage(ReferenceAdapter):
    """Keeps the time itself and calls it by another name."""

    async def _begin(self, task: TaskRequest) -> Job:
        # At once rather than by the clock: the guard's is the real one, and that of a trial is not.
        if task.timeout_s is not None and task.timeout_s < 1:
            raise DeadlineExceeded("no token would come in so short a time", stage="first_token")
        return await super()._begin(task)


@breaks("ORCH-3060-017")
class MissesTheDeadline(_Keeping):
    """Does not stop a task whose time is up."""

    def _keeps(self, task: TaskRequest) -> bool:
        return self._out_of_time(task)


@breaks("ORCH-3060-020")
class ClaimsARelease(ReferenceAdapter):
    """Says released before the engine has let go."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.server.release_s = 1.0

    async def _cancel(self, job_id: str) -> CancelReceipt:
        return msgspec.structs.replace(await super()._cancel(job_id), released=True)


@breaks("ORCH-3060-021")
class TriesAgainWhenInterrupted(ReferenceAdapter):
    """Takes the interruption for a failure, and tries again: once more than the guard's insistence can make good."""

    async def _begin(self, task: TaskRequest) -> Job:
        for _ in range(4):
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                return await super()._begin(task)
        return await super()._begin(task)


async def _cancels_the_reader(self: CancelsTheReader, job_id: str) -> CancelReceipt:
    stream = _stream_of(self, job_id)
    if job_id in self.under_way and stream is not None and (reader := stream._source.awaited_by) is not None:
        reader.cancel()
    self.under_way.add(job_id)
    return await WorkerAdapter.cancel(self, job_id)


class CancelsTheReader(ReferenceAdapter):
    """Cancels the task that reads when a second cancel comes during the first."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.under_way: set[str] = set()


breaks("ORCH-3060-022", final={"cancel": _cancels_the_reader})(CancelsTheReader)


@breaks("ORCH-3060-012")
class ClaimsLess(ReferenceAdapter):
    """Says of a cancel that stops the engine that it does not."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        return msgspec.structs.replace(await super()._cancel(job_id), mode="client_only")


@breaks("ORCH-3060-020")
class SaysReleasedUnheard(ReferenceAdapter):
    """Says that an engine which hangs has let go."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        hangs = self.server.mode is Mode.PAUSED
        if hangs:
            self.server.release_s = 3.0
        receipt = await super()._cancel(job_id)
        return msgspec.structs.replace(receipt, released=hangs or receipt.released)
