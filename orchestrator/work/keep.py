"""Tasks that go on without their client: their events are kept, to be read later or again."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from time import monotonic

import anyio
import anyio.abc

from adapter_api import JobConflict, TokenEvent
from orchestrator.pools.status import TaskStatus
from orchestrator.work.journal import Journal

Numbered = tuple[int, list[TokenEvent]]
"""Events that follow each other, and the number of the first one; a task's events count from 0."""


class EventLog:
    """The last `limit` events of one task. One writer, any number of readers, none of which slows another."""

    def __init__(self, owner: str | None, limit: int, *, first: int = 0) -> None:
        self.owner = owner
        self.ended_at: float | None = None
        self.written = first
        """How many events there were in all."""
        self._events: deque[TokenEvent] = deque(maxlen=limit)
        self._news = anyio.Event()

    @property
    def first(self) -> int:
        """Number of the oldest event that is still there."""
        return self.written - len(self._events)

    def append(self, events: list[TokenEvent]) -> None:
        self._events.extend(events)
        self.written += len(events)
        self._wake()

    def end(self, now: float) -> None:
        """Say that no event follows."""
        self.ended_at = now
        self._wake()

    async def read(self, start: int) -> AsyncIterator[Numbered]:
        """Yield all events from number `start` on, those ready together at once, until the task has ended.

        Raises:
            LookupError: Some of them are gone already.
        """
        while True:
            if start < self.first:
                raise LookupError(f"events before {self.first} are no longer kept")
            if start < self.written:
                # From the end, where most readers are: each new event must not cost a walk over all of them.
                events = list(islice(reversed(self._events), self.written - start))[::-1]
                yield start, events
                start += len(events)
            elif self.ended_at is not None:
                return
            else:
                await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()


class KeptTasks:
    """Reads tasks on behalf of clients that may leave. Needs a task group that outlives the requests.

    With a `journal` nobody is shown an event that is not in it, and what it has can be read after the host died.
    `status_of` tells how a task is, for the journal.
    """

    def __init__(
        self,
        *,
        tasks: int,
        events: int,
        keep_s: float,
        journal: Journal | None = None,
        status_of: Callable[[str], TaskStatus | None] = lambda job_id: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._event_limit = events
        self._keep_s = keep_s
        self._journal = journal
        self._status_of = status_of
        self._logs: OrderedDict[str, EventLog] = OrderedDict()
        self.group: anyio.abc.TaskGroup | None = None

    @property
    def full(self) -> bool:
        """Whether as many tasks run for absent clients as may."""
        self._forget_old()
        return sum(log.ended_at is None for log in self._logs.values()) >= self._tasks

    async def start(
        self,
        job_id: str,
        owner: str | None,
        batches: AsyncIterator[list[TokenEvent]],
        close: Callable[[], Awaitable[None]],
    ) -> EventLog:
        """Read a task's events to their end, whoever else reads along; `close` is called then.

        Raises:
            JobConflict: The journal has a task of that `job_id` already.
        """
        assert self.group is not None, "the host is not running"
        log: EventLog = await self.group.start(self._record, job_id, owner, batches, close)
        return log

    async def get(self, job_id: str) -> EventLog | None:
        """Return the events of a task; `None` when it is not kept, or no longer."""
        self._forget_old()
        log = self._logs.get(job_id)
        if log is not None or self._journal is None or (kept := await self._journal.read(job_id)) is None:
            return log
        log = EventLog(kept.owner, self._event_limit, first=kept.first)
        log.append(kept.events)
        log.end(self._clock())
        return log

    async def status(self, job_id: str) -> TaskStatus | None:
        """Return how a kept task ended that only the journal knows; `None` when it does not."""
        return await self._journal.status(job_id) if self._journal is not None else None

    def _forget_old(self) -> None:
        now = self._clock()
        ended = [
            job_id
            for job_id, log in self._logs.items()
            if log.ended_at is not None and now - log.ended_at >= self._keep_s
        ]
        for job_id in ended:
            del self._logs[job_id]
        # Ended ones go early when there are too many: running ones are never forgotten.
        while len(self._logs) > 2 * self._tasks:
            oldest = next((job_id for job_id, log in self._logs.items() if log.ended_at is not None), None)
            if oldest is None:
                return
            del self._logs[oldest]

    async def _record(
        self,
        job_id: str,
        owner: str | None,
        batches: AsyncIterator[list[TokenEvent]],
        close: Callable[[], Awaitable[None]],
        *,
        task_status: anyio.abc.TaskStatus[EventLog],
    ) -> None:
        journal, log = self._journal, EventLog(owner, self._event_limit)
        try:
            if journal is not None and not await journal.begin(job_id, owner, self._status_of(job_id)):
                raise JobConflict(f"a task with job_id {job_id!r} ran already; choose another, or leave it out")
            self._logs[job_id] = log
            task_status.started(log)
            async for batch in batches:
                if journal is not None:
                    await journal.append(job_id, log.written, batch)
                log.append(batch)
        finally:
            log.end(self._clock())
            with anyio.CancelScope(shield=True):
                await close()
                if journal is not None and log.written:
                    await journal.end(job_id, self._status_of(job_id))
        # What a model said shall not stay in memory longer than it can be read, though nobody asks for it any more.
        await anyio.sleep(self._keep_s)
        if self._logs.get(job_id) is log:
            del self._logs[job_id]
