"""Tasks that go on without their client: what is kept, how much of it, and for how long."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest

from adapter_api import Reasoning, Token, TokenEvent, ToolCallDelta
from orchestrator.work.keep import EventLog, KeptTasks
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio


def tokens(first: int, last: int) -> list[TokenEvent]:
    return [Token(index, str(index)) for index in range(first, last + 1)]


def log_of(count: int, *, limit: int = 100) -> EventLog:
    log = EventLog(None, limit)
    for index in range(count):
        log.append([Token(index, str(index))])
    return log


async def read_all(log: EventLog, start: int) -> list[tuple[int, TokenEvent]]:
    with anyio.fail_after(5):
        return [
            (number + place, event) async for number, events in log.read(start) for place, event in enumerate(events)
        ]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
async def test_a_reader_gets_every_event_from_where_it_left_off_with_its_number(start: int) -> None:
    log = log_of(5)
    log.end(0)

    assert await read_all(log, start) == list(enumerate(tokens(0, 4)))[start:]


async def test_a_reader_follows_what_is_still_written() -> None:
    log = log_of(2)
    found: list[tuple[int, TokenEvent]] = []

    async def follow() -> None:
        found.extend(await read_all(log, 0))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        log.append(tokens(2, 3))
        await anyio.wait_all_tasks_blocked()
        log.append(tokens(4, 4))
        log.end(0)

    assert found == list(enumerate(tokens(0, 4)))


async def test_only_the_last_events_are_kept_and_a_reader_that_fell_behind_is_told() -> None:
    log = log_of(10, limit=3)
    log.end(0)

    assert log.first == 7
    assert await read_all(log, 7) == list(enumerate(tokens(0, 9)))[7:]
    with pytest.raises(LookupError, match="before 7"):
        await read_all(log, 6)


async def endless() -> AsyncIterator[list[TokenEvent]]:
    await anyio.sleep_forever()
    yield []


async def short() -> AsyncIterator[list[TokenEvent]]:
    yield tokens(0, 1)


async def close() -> None:
    pass


async def test_running_tasks_fill_the_places_and_ended_ones_do_not() -> None:
    kept = KeptTasks(tasks=1, events=10, keep_s=60)
    async with anyio.create_task_group() as kept.group:
        ended = await kept.start("ended", None, short(), close)
        await read_all(ended, 0)
        assert not kept.full

        await kept.start("running", None, endless(), close)
        assert kept.full
        kept.group.cancel_scope.cancel()


async def test_a_task_can_be_read_for_its_time_after_its_end_and_no_longer() -> None:
    clock = FakeClock()
    kept = KeptTasks(tasks=1, events=10, keep_s=60, clock=clock)
    async with anyio.create_task_group() as kept.group:
        await read_all(await kept.start("j", None, short(), close), 0)
        clock.advance(59)
        assert (await kept.get("j")) is not None

        clock.advance(1)
        assert (await kept.get("j")) is None
        kept.group.cancel_scope.cancel()


async def test_what_a_task_said_does_not_stay_in_memory_though_nobody_asks_again() -> None:
    kept = KeptTasks(tasks=1, events=10, keep_s=0.01)
    async with anyio.create_task_group() as kept.group:
        await kept.start("j", None, short(), close)

        await eventually(lambda: not kept._logs)


async def test_ended_tasks_go_early_when_there_are_too_many_and_running_ones_never() -> None:
    kept = KeptTasks(tasks=1, events=10, keep_s=60)
    async with anyio.create_task_group() as kept.group:
        await kept.start("running", None, endless(), close)
        for name in ("a", "b", "c"):
            await read_all(await kept.start(name, None, short(), close), 0)

        assert (await kept.get("running")) is not None
        assert (await kept.get("a")) is None
        assert (await kept.get("c")) is not None
        kept.group.cancel_scope.cancel()


@pytest.mark.spec("ORCH-3064-036")
def test_a_log_keeps_no_more_bytes_than_it_may() -> None:
    log = EventLog(None, 1000, 10_000)
    for index in range(100):
        log.append([Token(index, "x" * 1000)])

    assert log.bytes <= 10_000
    # A text takes eight bytes less from Python 3.12 on.
    assert (log.written, log.first) == (100, 100 - log.bytes // (200 + sys.getsizeof("x" * 1000)))


def has_ended(log: EventLog) -> bool:
    return log.ended_at is not None


@pytest.mark.spec("ORCH-3064-036")
async def test_all_kept_tasks_together_keep_no_more_bytes_than_they_may() -> None:
    kept = KeptTasks(tasks=10, events=1000, keep_s=60, task_bytes=20_000, all_bytes=30_000)
    closed: list[str] = []

    async def batches() -> AsyncIterator[list[TokenEvent]]:
        for index in range(30):
            yield [Token(index, "x" * 1000)]

    async def close() -> None:
        closed.append("")

    async with anyio.create_task_group() as kept.group:
        for job_id in ("a", "b", "c"):
            log = await kept.start(job_id, None, batches(), close)
            await eventually(partial(has_ended, log))
            assert kept.bytes <= 30_000
        assert await kept.get("a") is None
        assert await kept.get("c") is log
        kept.group.cancel_scope.cancel()


@pytest.mark.spec("ORCH-3064-036")
async def test_of_tasks_that_all_run_the_one_that_writes_forgets_its_oldest_events() -> None:
    kept = KeptTasks(tasks=10, events=1000, keep_s=60, task_bytes=20_000, all_bytes=30_000)

    async def batches() -> AsyncIterator[list[TokenEvent]]:
        for index in range(30):
            yield [Token(index, "x" * 1000)]
        await anyio.sleep_forever()

    async def close() -> None: ...

    async with anyio.create_task_group() as kept.group:
        logs = [await kept.start(str(number), None, batches(), close) for number in range(3)]
        await eventually(lambda: all(log.written == 30 for log in logs))
        assert kept.bytes <= 30_000
        assert kept.bytes == sum(log.bytes for log in logs)
        kept.group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "event", [Token(0, "x" * 1000), Reasoning(0, "x" * 1000), ToolCallDelta(0, "i" * 400, "n" * 300, "x" * 300)]
)
def test_output_of_every_kind_counts_with_its_bytes(event: TokenEvent) -> None:
    log = EventLog(None, 100)
    log.append([event])

    assert 1000 <= log.bytes <= 1500
