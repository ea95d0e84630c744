"""The tasks of one request that asks for several answers: several prompts, or `n` of each. They run side by side, are
one answer to the client, and end together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, cast

import anyio

from adapter_api import Error, TaskRequest, TokenEvent, Usage
from orchestrator.http.answers import Batches
from orchestrator.http.guard import Client
from orchestrator.http.pending import Share
from orchestrator.http.service import AcceptedTask, Service
from orchestrator.pools.prompts import Prompts


async def accept_all(
    service: Service, tasks: Sequence[TaskRequest], client: Client, *, history: bool, share: Share
) -> Choices:
    """Take the tasks of one request in: all, or none; raises as `Service.accept` does."""
    client.count_more(len(tasks) - 1)  # one was counted before anybody looked at the request
    prompts = Prompts(tasks[0], share)
    taken: list[AcceptedTask] = []
    try:
        for task in tasks:
            # The answers to one conversation differ in nothing that a template sees.
            same = prompts if len(tasks) > 1 and task.messages is not None else None
            taken.append(await service.accept(task, client, history=history, share=share, prompts=same))
    except BaseException:
        with anyio.CancelScope(shield=True):
            await Choices(taken).close()
        raise
    return Choices(taken)


class Choices:
    """Tasks that have their places. Read `batches`, each of them the choice `index`'s, and call `close`, whatever
    happens."""

    def __init__(self, tasks: Sequence[AcceptedTask]) -> None:
        self.tasks = tasks
        self.index = 0

    @property
    def headers(self) -> dict[str, str]:
        """Of the first of them."""
        return self.tasks[0].headers

    @property
    def batches(self) -> Batches:
        """The events of all, as they come; after an error, nothing more of any."""
        return self.tasks[0].batches if len(self.tasks) == 1 else self._merged()

    async def close(self) -> None:
        """Close each of them."""
        for task in self.tasks:
            await task.close()

    async def _merged(self) -> AsyncIterator[list[TokenEvent]]:
        # One batch at a time: while nobody reads this, nothing is read from the engines either.
        ready: asyncio.Queue[tuple[int, list[TokenEvent] | BaseException | None]] = asyncio.Queue(1)
        readers = [asyncio.create_task(_read(index, task, ready)) for index, task in enumerate(self.tasks)]
        try:
            left = len(readers)
            while left:
                self.index, batch = await ready.get()
                if batch is None:
                    left -= 1
                    continue
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
                if isinstance(batch[-1], Error):
                    return
        finally:
            for reader in readers:
                reader.cancel()
            # Not `gather`: cancelled itself, it raises the readers' cancellation in place of ours, which nobody
            # would know.
            with anyio.CancelScope(shield=True):
                await asyncio.wait(readers)


async def _read(
    index: int, task: AcceptedTask, ready: asyncio.Queue[tuple[int, list[TokenEvent] | BaseException | None]]
) -> None:
    last: BaseException | None = None
    try:
        async with aclosing(cast(Any, task.batches)) as batches:
            async for batch in batches:
                await ready.put((index, batch))
    except Exception as exc:
        last = exc
    await ready.put((index, last))


def usage_of_all(usages: Sequence[Usage], n: int) -> Usage:
    """Return what the choices used together; a prompt that has `n` answers counts once, as OpenAI's API does it."""
    given = [usage.tokens_in for usage in usages[::n]]
    made = [usage.tokens_out for usage in usages]
    return Usage(
        tokens_in=None if None in given else sum(cast("list[int]", given)),
        tokens_out=None if None in made else sum(cast("list[int]", made)),
    )
