"""The tasks of one request that asks for several answers: several prompts, or `n` of each. They run side by side, as
many of them as there is room for, are one answer to the client, and end together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any, Protocol, cast

import anyio
import msgspec

from adapter_api import (
    AdapterError,
    DeadlineExceeded,
    Error,
    Output,
    Overloaded,
    TaskRequest,
    TokenEvent,
    Usage,
    new_job_id,
)
from orchestrator.http.answers import Batches
from orchestrator.http.guard import Client
from orchestrator.http.pending import Share
from orchestrator.http.service import AcceptedTask, Service
from orchestrator.pools.prompts import Prompts


class Accept(Protocol):
    def __call__(self, task: TaskRequest, *, comes_again: bool) -> Awaitable[AcceptedTask]: ...


_Ready = asyncio.Queue[tuple[int, AcceptedTask, list[TokenEvent] | BaseException | None]]


async def accept_all(
    service: Service, tasks: Sequence[TaskRequest], client: Client, *, history: bool, share: Share, one_call: bool
) -> Choices:
    """Take the tasks of one request in, as many as there is room for: the others follow as these end. Raises as
    `Service.accept` does, which `one_call` goes to, when not even one is taken in or any of them is refused for another
    reason."""
    client.count_more(len(tasks) - 1)  # one was counted before anybody looked at the request
    # The answers to one conversation differ in nothing that a template sees.
    prompts = Prompts(tasks[0], share) if len(tasks) > 1 and tasks[0].messages is not None else None

    async def accept(task: TaskRequest, *, comes_again: bool) -> AcceptedTask:
        return await service.accept(
            task,
            client,
            history=history,
            share=share,
            prompts=prompts,
            comes_again=comes_again,
            one_call=one_call,
        )

    choices = Choices(tasks, accept)
    try:
        await choices.begin()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await choices.close()
        raise
    return choices


class Choices:
    """Tasks of which some have their places. Read `batches`, each of them the choice `index`'s, and call `close`,
    whatever happens."""

    def __init__(self, tasks: Sequence[TaskRequest], accept: Accept) -> None:
        self.index = 0
        self._tasks = tasks
        self._accept = accept
        self._began = perf_counter()
        self._taken: dict[int, AcceptedTask] = {}
        self._left = deque(range(len(tasks)))
        """Those that had no room yet, or lost it again."""
        self._late: set[int] = set()
        """Those that began later, with what was left of their time."""
        self._driven_out: list[AcceptedTask] = []

    async def begin(self) -> None:
        """Take in the first, and as many of the others as there is room for."""
        await self._take_in(self._tasks[0], comes_again=False)
        try:
            while self._left:
                await self._take_in(self._tasks[self._left[0]], comes_again=True)
        except Overloaded:
            return

    @property
    def headers(self) -> dict[str, str]:
        """Of the first of them."""
        return self._taken[0].headers

    @property
    def batches(self) -> Batches:
        """The events of all, as they come; after an error, nothing more of any."""
        return self._taken[0].batches if len(self._tasks) == 1 else self._merged()

    async def close(self) -> None:
        """Close each of them."""
        for task in (*self._taken.values(), *self._driven_out):
            await task.close()

    async def _merged(self) -> AsyncIterator[list[TokenEvent]]:
        # One batch at a time: while nobody reads this, nothing is read from the engines either.
        ready: _Ready = asyncio.Queue(1)
        readers: list[asyncio.Task[None]] = []
        # Not places: one that was driven out may have its place again before its first reader has ended.
        running: set[AcceptedTask] = set()
        shown: set[int] = set()

        def read(places: Iterable[int]) -> None:
            for place in places:
                running.add(self._taken[place])
                readers.append(asyncio.create_task(_read(place, self._taken[place], ready)))

        try:
            read(list(self._taken))
            while running:
                place, task, batch = await ready.get()
                if batch is None:
                    running.discard(task)
                    # Who was driven out makes no room: it waits for one that ended.
                    if self._left and (self._taken.get(place) is task or not running):
                        try:
                            read(await self._follow(alone=not running))
                        except AdapterError as exc:
                            self.index = self._left[0]
                            yield [Error.from_exception(exc)]
                            return
                    continue
                if isinstance(batch, BaseException):
                    raise batch
                if any(isinstance(event, Output) for event in batch):
                    shown.add(place)
                last = batch[-1]
                if place in self._late and isinstance(last, Error) and last.stage == "total":
                    # It had what was left of the time, which is no figure that the client knows.
                    batch = [*batch[:-1], msgspec.structs.replace(last, message=self._out_of_time(place).message)]
                if _has_no_room(last) and place not in shown and running != {task}:
                    self._drive_out(place)
                    continue
                self.index = place
                yield batch
                if isinstance(last, Error):
                    return
        finally:
            for reader in readers:
                reader.cancel()
            # Not `gather`: cancelled itself, it raises the readers' cancellation in place of ours, which nobody
            # would know.
            with anyio.CancelScope(shield=True):
                await asyncio.wait(readers)

    async def _follow(self, *, alone: bool) -> list[int]:
        """Take in one in the place of one that ended, and another one to see whether there is more room by now."""
        taken: list[int] = []
        for _ in range(min(2, len(self._left))):
            place = self._left[0]
            # By another name, for those that were driven out had theirs; its time counts from the request's arrival.
            changes: dict[str, Any] = {"job_id": new_job_id()}
            task = self._tasks[place]
            if task.timeout_s is not None:
                changes["timeout_s"] = task.timeout_s - (perf_counter() - self._began)
                self._late.add(place)
                if changes["timeout_s"] <= 0:
                    raise self._out_of_time(place)
            comes_again = bool(taken) or not alone
            try:
                await self._take_in(task.model_copy(update=changes), comes_again=comes_again)
            except Overloaded:
                if not comes_again:
                    raise
                break
            taken.append(place)
        return taken

    def _out_of_time(self, place: int) -> DeadlineExceeded:
        return DeadlineExceeded(f"the answers did not end within {self._tasks[place].timeout_s:g} s", stage="total")

    async def _take_in(self, task: TaskRequest, *, comes_again: bool) -> None:
        self._taken[self._left[0]] = await self._accept(task, comes_again=comes_again)
        self._left.popleft()

    def _drive_out(self, place: int) -> None:
        self._driven_out.append(self._taken.pop(place))
        self._left.append(place)


async def _read(index: int, task: AcceptedTask, ready: _Ready) -> None:
    last: BaseException | None = None
    try:
        async with aclosing(cast(Any, task.batches)) as batches:
            async for batch in batches:
                await ready.put((index, task, batch))
    except Exception as exc:
        last = exc
    await ready.put((index, task, last))


def _has_no_room(event: TokenEvent) -> bool:
    return isinstance(event, Error) and event.code == Overloaded.code


def usage_of_all(usages: Sequence[Usage], n: int) -> Usage:
    """Return what the choices used together; a prompt that has `n` answers counts once, as OpenAI's API does it."""
    prompts = usages[::n]
    given = [usage.tokens_in for usage in prompts]
    made = [usage.tokens_out for usage in usages]
    return Usage(
        tokens_in=None if None in given else sum(cast("list[int]", given)),
        tokens_out=None if None in made else sum(cast("list[int]", made)),
        tokens_in_cached=_told([usage.tokens_in_cached for usage in prompts]),
        tokens_out_reasoning=_told([usage.tokens_out_reasoning for usage in usages]),
    )


def _told(counts: list[int | None]) -> int | None:
    """Return the sum of those that are known; of a part nobody is billed."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
