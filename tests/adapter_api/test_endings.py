"""Everything that can end a task, at once: all ordered pairs, and triples, of endings in one round of the loop.

The endings meet a task after every number of rounds of its life, so that they hit it unread, between two tokens, at its
last word and after it; and a task that waits for its engine. Whatever meets: the reader sees one terminal event and
nothing after it, or none if it was cancelled or left by itself; nobody is cancelled whom nobody cancelled; and nothing
is left in the engine or in the loop. `ENDINGS=all` tries all triples everywhere.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, NamedTuple, cast

import anyio
import anyio.lowlevel
import pytest

from adapter_api import End, Error, NotReady, TaskRequest, Token, TokenEvent, TokenStream
from adapter_api.testing import MockAdapter, MockSettings, find_violation

pytestmark = pytest.mark.anyio

ENDINGS = ("stop", "fail", "cancel", "aclose", "deadline", "adapter closes", "reader cancelled", "reader leaves")
READERS = ("async for", "batches", "anext")
THE_READERS_OWN = {"reader cancelled", "reader leaves"}
ALL = os.environ.get("ENDINGS") == "all"

SHORT = MockSettings(reply="one two three")
ROUNDS_OF_SHORT = range(14)
"""From before the first read to after the end of the short task."""
LIVES = {
    "short": (SHORT, ROUNDS_OF_SHORT),
    "flowing": (MockSettings(reply=" ".join("x" * 2000), default_max_tokens=2000), (20,)),
    "waiting for the first token": (MockSettings(hang_after=0), (12,)),
    "waiting between tokens": (MockSettings(hang_after=2), (12,)),
}


class Scenario(NamedTuple):
    life: str
    rounds: int
    reader: str
    endings: tuple[str, ...]


class Run:
    """One task, its reader, and what became of them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.adapter = MockAdapter(LIVES[scenario.life][0])
        self.events: list[TokenEvent] = []
        self.escaped: BaseException | None = None
        self.cancels_left = 0
        self.scope = anyio.CancelScope()
        self.leaving = False
        self.broken_promises: list[str] = []
        self.stream: TokenStream

    async def go(self) -> None:
        task = TaskRequest(job_id="j", model="mock", prompt="p", timeout_s=60)
        async with self.adapter, anyio.create_task_group() as group:
            self.stream = self.adapter.submit(task)
            if self.scenario.rounds:
                group.start_soon(self.read)
                for _ in range(self.scenario.rounds):
                    await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as endings:
                for ending in self.scenario.endings:
                    endings.start_soon(self.end, ending)
                if not self.scenario.rounds:
                    endings.start_soon(self.read)
            if set(self.scenario.endings) == {"reader leaves"}:
                self.scope.cancel()  # it may wait for an event that does not come

    async def read(self) -> None:
        task = asyncio.current_task() if asyncio._get_running_loop() else None
        try:
            with self.scope:
                await self._read()
                await anyio.lowlevel.checkpoint()  # a cancel that was left over would hit this
            await anyio.lowlevel.checkpoint()
        except BaseException as exc:
            self.escaped = exc
        self.cancels_left = task.cancelling() if task is not None else 0

    async def _read(self) -> None:
        async with aclosing(_read_by(self.scenario.reader, self.stream)) as batches:
            async for events in batches:
                self.events += events
                if self.leaving:
                    await self.stream.aclose()
                    return

    async def end(self, how: str) -> None:
        if how == "stop":
            await self.stream.stop(End(finish_reason="cancelled"))
        elif how == "fail":
            await self.stream.stop(NotReady("draining"))
        elif how == "cancel":
            receipt = await self.adapter.cancel("j")
            if receipt.acknowledged:
                tokens = self._tokens()
                await anyio.lowlevel.checkpoint()
                if not self.stream.quiet or self._tokens() != tokens:
                    self.broken_promises.append("a token after an acknowledged cancel")
        elif how == "aclose":
            await self.stream.aclose()
        elif how == "deadline":
            self.stream._source.interrupt()  # as the timer does
        elif how == "adapter closes":
            await self.adapter.aclose()
        elif how == "reader cancelled":
            self.scope.cancel()
        else:
            self.leaving = True

    def _tokens(self) -> int:
        return sum(type(event) is Token for event in self.events)

    def faults(self) -> Iterator[str]:
        yield from self.broken_promises
        terminals = [event for event in self.events if isinstance(event, End | Error)]
        own = THE_READERS_OWN & set(self.scenario.endings)
        if len(terminals) != 1 and not (own and not terminals):
            yield f"{len(terminals)} terminal events"
        if terminals and (violation := find_violation(self.events)) is not None:
            yield violation
        if terminals and self.stream.terminal != terminals[0]:
            yield f"the stream says that it ended in {self.stream.terminal}"
        if self.escaped is not None:
            yield f"{self.escaped!r} reached a reader"
        if self.cancels_left:
            yield f"{self.cancels_left} cancels left in the reader's task"
        if self.adapter.running or self.adapter.live_jobs:
            yield f"left in the engine: {self.adapter.running}, {self.adapter.live_jobs}"
        if self.stream.repairs:
            yield f"{self.stream.repairs} repairs"


async def _read_by(reader: str, stream: TokenStream) -> AsyncGenerator[list[TokenEvent]]:
    if reader == "async for":
        async for event in stream:
            yield [event]
    elif reader == "batches":
        async with aclosing(cast("AsyncGenerator[list[TokenEvent]]", stream.batches())) as batches:
            async for batch in batches:
                yield batch
    else:
        while True:
            try:
                event = await anext(stream)
            except StopAsyncIteration:
                return
            yield [event]


def _meetings(count: int) -> Iterator[tuple[str, ...]]:
    """Every ordered choice of so many endings; of triples a part, evenly spread, unless all are asked for."""
    every = list(itertools.product(ENDINGS, repeat=count))
    yield from every if count < 3 or ALL else every[:: 1 + 12]


@pytest.fixture
def same_order_every_time() -> None:
    """Trio runs what is ready in an order of its own choice."""
    import trio._core._run as run

    run._r.seed(0)


async def _try(scenarios: Iterator[Scenario]) -> list[str]:
    """Run each in turn and return what went wrong."""
    found: list[str] = []
    for scenario in scenarios:
        run = Run(scenario)
        try:
            with anyio.fail_after(20):
                await run.go()
        except TimeoutError:
            found.append(f"{scenario}: hangs")
            continue
        found += [f"{scenario}: {fault}" for fault in run.faults()]
    return found


@pytest.mark.spec("ORCH-3059-049", "ORCH-3060-022")
@pytest.mark.usefixtures("same_order_every_time")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("life", LIVES)
async def test_whatever_ends_a_task_at_once_leaves_one_terminal(life: str, count: int, reader: str) -> None:
    unhandled: list[Any] = []
    if loop := asyncio._get_running_loop():
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
    tasks_before = len(asyncio.all_tasks()) if loop else 0
    rounds = LIVES[life][1] if count < 3 or ALL else list(LIVES[life][1])[::4]

    found = await _try(Scenario(life, after, reader, endings) for after in rounds for endings in _meetings(count))

    assert found == []
    assert unhandled == []
    if loop:
        assert len(asyncio.all_tasks()) == tasks_before


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", ["task", "timeout", "task group"])
@pytest.mark.parametrize("order", ["stop first", "cancel first"])
@pytest.mark.parametrize("rounds", range(1, 12))
@pytest.mark.parametrize("life", ["flowing", "waiting between tokens"])
async def test_a_native_cancel_of_the_reader_beside_a_stop_is_neither_swallowed_nor_doubled(
    way: str, order: str, rounds: int, life: str
) -> None:
    adapter = MockAdapter(LIVES[life][0])
    over = asyncio.Event()
    timeout = asyncio.timeout(None)

    async def read(stream: TokenStream) -> None:
        async for _ in stream:
            pass
        await asyncio.sleep(0)
        await over.wait()

    async def in_a_timeout(stream: TokenStream) -> str:
        try:
            async with timeout:
                await read(stream)
        except TimeoutError:
            return f"timed out, {_cancels()} cancels left"
        return "not cancelled"

    async def in_a_group(stream: TokenStream) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail_when(failing))
                await read(stream)
        except ExceptionGroup as exc:
            return f"group failed in {exc.exceptions[0]!r}, {_cancels()} cancels left"
        return "not cancelled"

    async def alone(stream: TokenStream) -> str:
        try:
            await read(stream)
        except asyncio.CancelledError:
            return f"cancelled, {_cancels()} cancels left"
        return "not cancelled"

    failing = asyncio.Event()
    async with adapter, asyncio.timeout(20):
        stream = adapter.submit(TaskRequest(job_id="j", model="mock", prompt="p"))
        reading = asyncio.create_task({"task": alone, "timeout": in_a_timeout, "task group": in_a_group}[way](stream))
        for _ in range(rounds):
            await asyncio.sleep(0)

        def cancel() -> None:
            if way == "task":
                reading.cancel()
            elif way == "timeout":
                timeout.reschedule(asyncio.get_running_loop().time() - 1)
            else:
                failing.set()

        if order == "cancel first":
            cancel()
        stopping = asyncio.create_task(stream.stop(End(finish_reason="cancelled")))
        if order == "stop first":
            asyncio.get_running_loop().call_soon(cancel)
        said = await reading
        await stopping

    assert (
        said
        == {
            "task": "cancelled, 1 cancels left",
            "timeout": "timed out, 0 cancels left",
            "task group": "group failed in ZeroDivisionError(), 0 cancels left",
        }[way]
    )
    assert stream.finished
    assert not adapter.running


def _cancels() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def _fail_when(event: asyncio.Event) -> None:
    await event.wait()
    raise ZeroDivisionError
