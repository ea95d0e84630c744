"""Tasks that go on without their client: their events are kept, to be read later or again."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from sys import getsizeof
from time import monotonic

import anyio
import anyio.abc

from adapter_api import (
    Error,
    JobConflict,
    Metrics,
    PromptLogprobs,
    Reasoning,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
)
from orchestrator.pools.status import TaskStatus
from orchestrator.work.journal import Journal

Numbered = tuple[int, list[TokenEvent]]
"""Events that follow each other, and the number of the first one; a task's events count from 0."""

_EVENT_BYTES = 200
"""What an event takes beside its text, and an alternative; a little more than was measured."""
_ID_BYTES = 40
"""A number of Python's, and its place in a tuple."""
_TASK_BYTES, _ALL_BYTES = 8 * 2**20, 256 * 2**20


class EventLog:
    """The last events of one task: `limit` of them, and `most_bytes`. One writer, any number of readers, none of which
    slows another."""

    def __init__(self, owner: str | None, limit: int, most_bytes: int = _TASK_BYTES, *, first: int = 0) -> None:
        self.owner = owner
        self.ended_at: float | None = None
        self.written = first
        """How many events there were in all."""
        self.bytes = 0
        """What those that are still there take, about."""
        self._limit = limit
        self._most_bytes = most_bytes
        self._events: deque[TokenEvent] = deque()
        self._news = anyio.Event()

    @property
    def first(self) -> int:
        """Number of the oldest event that is still there."""
        return self.written - len(self._events)

    def append(self, events: list[TokenEvent]) -> None:
        self._events.extend(events)
        self.written += len(events)
        self.bytes += sum(map(_size, events))
        while len(self._events) > self._limit or self.bytes > self._most_bytes:
            self._forget_first()
        self._wake()

    def shrink(self, size: int) -> None:
        """Forget the oldest events, `size` bytes of them or a little more."""
        goal = self.bytes - size
        while self._events and self.bytes > goal:
            self._forget_first()

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

    async def wait_until_ended(self) -> None:
        while self.ended_at is None:
            await self._news.wait()

    def _forget_first(self) -> None:
        self.bytes -= _size(self._events.popleft())

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()


def _size(event: TokenEvent) -> int:
    """Return how many bytes of memory an event takes, about."""
    if isinstance(event, Token):
        return _EVENT_BYTES + getsizeof(event.text) + sum(_EVENT_BYTES + getsizeof(a.text) for a in event.alternatives)
    if isinstance(event, Reasoning):
        return _EVENT_BYTES + getsizeof(event.text)
    if isinstance(event, ToolCallDelta):
        return _EVENT_BYTES + sum(map(getsizeof, (event.arguments, event.name or "", event.id or "")))
    if isinstance(event, TokenIds):
        return _EVENT_BYTES + _ID_BYTES * (len(event.prompt) + len(event.output))
    if isinstance(event, PromptLogprobs):
        return _EVENT_BYTES + sum(
            (_EVENT_BYTES + getsizeof(each.text)) * (1 + len(each.alternatives)) for each in event.tokens
        )
    if isinstance(event, Metrics):
        return _EVENT_BYTES * (1 + len(event.engine))
    return _EVENT_BYTES + (getsizeof(event.message) if isinstance(event, Error) else 0)


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
        task_bytes: int = _TASK_BYTES,
        all_bytes: int = _ALL_BYTES,
        journal: Journal | None = None,
        status_of: Callable[[str], TaskStatus | None] = lambda job_id: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._event_limit = events
        self._task_bytes = task_bytes
        self._all_bytes = all_bytes
        self._keep_s = keep_s
        self._journal = journal
        self._status_of = status_of
        self._logs: OrderedDict[str, EventLog] = OrderedDict()
        self._beginning: dict[str, anyio.Event] = {}
        """Tasks that are being written down for the first time; set when that is done."""
        self._bytes = 0
        self.group: anyio.abc.TaskGroup | None = None

    @property
    def bytes(self) -> int:
        """What all kept events take, about."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether as many tasks run for absent clients as may."""
        self.forget_old()
        running = sum(log.ended_at is None for log in self._logs.values())
        return running + len(self._beginning) >= self._tasks

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
        self._beginning[job_id] = begun = anyio.Event()
        try:
            log: EventLog = await self.group.start(self._record, job_id, owner, batches, close)
            return log
        finally:
            self._beginning.pop(job_id, None)
            begun.set()

    async def get(self, job_id: str) -> EventLog | None:
        """Return the events of a task; `None` when it is not kept, or no longer."""
        self.forget_old()
        while (begun := self._beginning.get(job_id)) is not None:
            await begun.wait()
        log = self._logs.get(job_id)
        if log is not None or self._journal is None or (kept := await self._journal.read(job_id)) is None:
            return log
        log = EventLog(kept.owner, self._event_limit, self._task_bytes, first=kept.first)
        log.append(kept.events)
        log.end(self._clock())
        return log

    async def status(self, job_id: str) -> TaskStatus | None:
        """Return how a kept task ended that only the journal knows; `None` when it does not."""
        return await self._journal.status(job_id) if self._journal is not None else None

    async def wait_until_ended(self, job_id: str) -> None:
        """Wait until a task's readers have been given its last event, if it is kept and not only in the journal."""
        while (begun := self._beginning.get(job_id)) is not None:
            await begun.wait()
        if (log := self._logs.get(job_id)) is not None:
            await log.wait_until_ended()

    def forget_old(self) -> None:
        """Forget the tasks whose time is up."""
        now = self._clock()
        ended = [
            job_id
            for job_id, log in self._logs.items()
            if log.ended_at is not None and now - log.ended_at >= self._keep_s
        ]
        for job_id in ended:
            self._forget(job_id)
        # Ended ones go early when there are too many: running ones are never forgotten.
        while len(self._logs) > 2 * self._tasks:
            oldest = next((job_id for job_id, log in self._logs.items() if log.ended_at is not None), None)
            if oldest is None:
                return
            self._forget(oldest)

    def _make_room(self, writing: EventLog, grown: int) -> None:
        """Keep to the bytes of all tasks: the oldest task that ended goes first, then the oldest events of the one that
        writes."""
        self._bytes += grown
        while self._bytes > self._all_bytes:
            oldest = next((job_id for job_id, log in self._logs.items() if log.ended_at is not None), None)
            if oldest is None:
                before = writing.bytes
                writing.shrink(self._bytes - self._all_bytes)
                self._bytes -= before - writing.bytes
                return
            self._forget(oldest)

    def _forget(self, job_id: str) -> None:
        self._bytes -= self._logs.pop(job_id).bytes

    async def _record(
        self,
        job_id: str,
        owner: str | None,
        batches: AsyncIterator[list[TokenEvent]],
        close: Callable[[], Awaitable[None]],
        *,
        task_status: anyio.abc.TaskStatus[EventLog],
    ) -> None:
        journal, log = self._journal, EventLog(owner, self._event_limit, self._task_bytes)
        try:
            if journal is not None and not await journal.begin(job_id, owner, self._status_of(job_id)):
                raise JobConflict(f"a task with job_id {job_id!r} ran already; choose another, or leave it out")
            if job_id in self._logs:  # long ended: a `job_id` is remembered longer than its events
                self._forget(job_id)
            self._logs[job_id] = log
            task_status.started(log)
            async for batch in batches:
                if journal is not None:
                    await journal.append(job_id, log.written, batch)
                before = log.bytes
                log.append(batch)
                self._make_room(log, log.bytes - before)
        finally:
            log.end(self._clock())
            with anyio.CancelScope(shield=True):
                await close()
                if journal is not None and log.written:
                    await journal.end(job_id, self._status_of(job_id))
        # What a model said shall not stay in memory longer than it can be read, though nobody asks for it any more.
        await anyio.sleep(self._keep_s)
        if self._logs.get(job_id) is log:
            self._forget(job_id)
