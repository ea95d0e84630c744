"""ORCH-3056: opening, using and closing an adapter."""

from __future__ import annotations

import socket
import sys
import threading
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

import anyio

from adapter_api import (
    AdapterError,
    EngineFailed,
    EngineProps,
    HealthReport,
    InferRequest,
    InferResponse,
    JobConflict,
    NotReady,
    TaskRequest,
    TokenEvent,
    TokenStream,
    WorkerAdapter,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Fault, Job, Mode


@breaks("ORCH-3056-001")
class NeedsItsEngine(ReferenceAdapter):
    """Does not open while the engine is down."""

    async def _open(self) -> None:
        await self.server.answer()


async def _reopens(self: WorkerAdapter) -> WorkerAdapter:
    self._lifecycle = "new"
    return await WorkerAdapter.__aenter__(self)


@breaks("ORCH-3056-002", final={"__aenter__": _reopens})
class Reopens(ReferenceAdapter):
    """Opens as often as asked."""


async def _closes_once(self: WorkerAdapter) -> None:
    if self._lifecycle == "closed":
        raise RuntimeError("closed already")
    await WorkerAdapter.aclose(self)


@breaks("ORCH-3056-003", final={"aclose": _closes_once})
class ClosesOnce(ReferenceAdapter):
    """Raises when it is closed again."""


async def _blames_the_engine(self: WorkerAdapter) -> None:
    for stream in self._streams:
        await stream.stop(NotReady("the engine is not ready"))
    await WorkerAdapter.aclose(self)


@breaks("ORCH-3056-004", final={"aclose": _blames_the_engine})
class BlamesTheEngine(ReferenceAdapter):
    """Ends the tasks that run at its close in another error."""


def _serves_before_opening(self: ReferenceAdapter, task: TaskRequest) -> TokenStream:
    if self._lifecycle == "new":
        return TokenStream(self._submit(task), job_id=task.job_id)
    return WorkerAdapter.submit(self, task)


@breaks("ORCH-3056-005", final={"submit": _serves_before_opening})
class ServesBeforeOpening(ReferenceAdapter):
    """Runs tasks before it was opened."""


def _serves_after_closing(self: ReferenceAdapter, task: TaskRequest) -> TokenStream:
    if self._lifecycle == "closed":
        return TokenStream(self._submit(task), job_id=task.job_id)
    return WorkerAdapter.submit(self, task)


@breaks("ORCH-3056-006", final={"submit": _serves_after_closing})
class ServesAfterClosing(ReferenceAdapter):
    """Runs tasks after it was closed."""


@breaks("ORCH-3056-007")
class WaitsForItsEngine(ReferenceAdapter):
    """Waits for an engine that hangs before it closes."""

    async def _close(self) -> None:
        if self.server.mode is Mode.PAUSED:
            with anyio.move_on_after(60, shield=True):
                await self.server.answer()


@breaks("ORCH-3056-008")
class LeavesTasksBehind(ReferenceAdapter):
    """Stops nothing in the engine when it is closed."""

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        if self._lifecycle != "closed":
            super()._let_go(task, job)


@breaks("ORCH-3056-009")
class RemembersJobs(ReferenceAdapter):
    """Takes each `job_id` once in its life."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.used: set[str] = set()

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        if task.job_id in self.used:
            raise JobConflict("this job_id was used")
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                yield event
        self.used.add(task.job_id)


@breaks("ORCH-3056-009")
class KeepsFailedJobs(ReferenceAdapter):
    """Does not free the `job_id` of a task that failed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.failed: set[str] = set()

    async def _begin(self, task: TaskRequest) -> Job:
        if task.job_id in self.failed:
            raise JobConflict("this job_id is taken")
        try:
            return await super()._begin(task)
        except AdapterError:
            self.failed.add(task.job_id)
            raise


class _Flagging(ReferenceAdapter):
    """Knows which jobs were cancelled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cancelled: set[str] = set()

    async def _cancel(self, job_id: str) -> Any:
        self.cancelled.add(job_id)
        return await super()._cancel(job_id)


@breaks("ORCH-3056-009")
class KeepsCancelledJobs(_Flagging):
    """Does not free the `job_id` of a task that was cancelled."""

    async def _begin(self, task: TaskRequest) -> Job:
        if task.job_id in self.cancelled:
            raise JobConflict("this job_id is taken")
        return await super()._begin(task)


@breaks("ORCH-3056-010")
class MissesTheClosing(_Flagging):
    """Stops a task in the engine when it is cancelled, not when its reader leaves."""

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        left = sys.exc_info()[0] is GeneratorExit
        if left and task.job_id not in self.cancelled and self._lifecycle == "open":
            self.jobs.pop(task.job_id, None)
        else:
            super()._let_go(task, job)


async def _tells_from_memory(self: ReferenceAdapter) -> EngineProps:
    return await (self._props() if self._lifecycle == "closed" else WorkerAdapter.props(self))


@breaks("ORCH-3056-011", final={"props": _tells_from_memory})
class TellsFromMemory(ReferenceAdapter):
    """Answers `props` when it is closed."""


async def _infers_when_closed(self: ReferenceAdapter, request: InferRequest) -> InferResponse:
    return await (self._infer(request) if self._lifecycle == "closed" else WorkerAdapter.infer(self, request))


@breaks("ORCH-3056-012", final={"infer": _infers_when_closed})
class InfersWhenClosed(ReferenceAdapter):
    """Runs inferences when it is closed."""


@breaks("ORCH-3056-013")
class GivesUp(ReferenceAdapter):
    """Does not try again once its engine could not be reached."""

    lost: Exception | None = None

    async def _begin(self, task: TaskRequest) -> Job:
        if self.lost is not None:
            raise self.lost
        try:
            return await super()._begin(task)
        except Exception as exc:
            if self.server.mode is Mode.DOWN:
                self.lost = exc
            raise


@breaks("ORCH-3056-018")
class LeaksSlots(ReferenceAdapter):
    """Keeps the slot of a task that ended in order, from the second on."""

    ended = 0

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        self.ended += 1
        if sys.exc_info()[0] is not None or self.ended == 1:
            return super()._let_go(task, job)
        self.jobs.pop(task.job_id, None)
        job.gone_at = None
        if job not in self.server.jobs:
            self.server.jobs.append(job)


class _Threaded(ReferenceAdapter):
    """Has a thread, which ends with the adapter's object at the latest."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.over = threading.Event()
        weakref.finalize(self, self.over.set)

    def _start_thread(self) -> None:
        self.thread = threading.Thread(target=self.over.wait, daemon=True, name="reference-pump")
        self.thread.start()


@breaks("ORCH-3056-019")
class StartsEarly(_Threaded):
    """Starts a thread when it is created."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._start_thread()

    async def _close(self) -> None:
        self.over.set()
        # A thread ends in real time, while the clock of a trial jumps over every wait for it.
        self.thread.join()


@breaks("ORCH-3056-020")
class LeavesAThread(_Threaded):
    """Does not stop its thread."""

    async def _open(self) -> None:
        self._start_thread()


@breaks("ORCH-3056-021")
class ClosesEverybody(ReferenceAdapter):
    """Closes what it shares with other adapters."""

    opened: ClassVar[list[ClosesEverybody]] = []
    dead = False

    async def _open(self) -> None:
        self.opened.append(self)

    async def _close(self) -> None:
        for adapter in self.opened:
            adapter.dead = True
        self.opened.clear()

    async def _begin(self, task: TaskRequest) -> Job:
        if self.dead:
            raise NotReady("the shared connection is closed")
        return await super()._begin(task)


@breaks("ORCH-3056-022")
class Sulks(ReferenceAdapter):
    """Fails the task after one that the engine refused."""

    sulking = False

    def _error(self, fault: Fault) -> Any:
        self.sulking = fault.kind == "invalid_request"
        return super()._error(fault)

    async def _begin(self, task: TaskRequest) -> Job:
        if self.sulking:
            self.sulking = False
            raise EngineFailed("the connection is in an unknown state")
        return await super()._begin(task)


@breaks("ORCH-3056-023")
class RaisesAtTheClose(ReferenceAdapter):
    """Raises while it is being closed."""

    async def _close(self) -> None:
        raise RuntimeError("the connection is closed already")


@breaks("ORCH-3056-024")
class BreaksWhereItShouldReport(ReferenceAdapter):
    """Raises an error of its own when its engine is gone, and leaves it to the base class to report it."""

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        if not report.live:
            raise RuntimeError("no connection")
        return report


@breaks("ORCH-3056-026")
class KeepsItsSockets(ReferenceAdapter):
    """Does not close what it has opened."""

    opened: ClassVar[list[tuple[socket.socket, socket.socket]]] = []

    async def _open(self) -> None:
        await super()._open()
        self.opened.append(socket.socketpair())
