"""How tasks end in a host: what is written down of a task is what its stream said, whatever ended it."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections import Counter
from typing import Any

import anyio
import pytest

from adapter_api import End, Error, TokenEvent, TokenStream
from adapter_api.testing import MockAdapter, find_violation
from orchestrator import Orchestrator
from tests.orchestrator.observability.test_logging import log, records
from tests.orchestrator.pooling import adapter_of, orchestrator, task
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("early_timers")]

__all__ = ["log"]

ENDINGS = ("cancel", "adapter cancels", "stop", "deadline", "close", "drain", "replica closes", "host closes")


@pytest.fixture
async def early_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers of some event loops count whole milliseconds and fire early by up to one."""
    loop = asyncio.get_running_loop()
    exact = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *rest, **more: exact(max(0, delay - 0.005), *rest, **more))


class Reader:
    """Reads one task of a host in an asyncio task of its own."""

    def __init__(self, host: Orchestrator, **fields: Any) -> None:
        self.host = host
        self.stream: TokenStream = host.accept(task(**{"max_tokens": 500, **fields}))
        self.events: list[TokenEvent] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.stream:
            self.events.append(event)

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def end(self, how: str) -> None:
        job_id, adapter = self.stream.job_id, adapter_of(self.host, "r0")
        if how == "cancel":
            await self.host.cancel(job_id)
        elif how == "adapter cancels":
            await adapter.cancel(job_id)
        elif how == "stop":
            await self.stream.stop(End(finish_reason="cancelled"))
        elif how == "deadline":
            self.stream._source.interrupt()
        elif how == "close":
            await self.stream.aclose()
        elif how == "drain":
            await self.host.drain("default", timeout_s=0)
        elif how == "replica closes":
            await adapter.aclose()
        else:
            await self.host.end_tasks()


@pytest.mark.spec("ORCH-3059-049", "ORCH-3062-017")
@pytest.mark.parametrize("life", [{}, {"hang_after": 0}, {"hang_after": 2}], ids=["flowing", "unsaid", "waiting"])
async def test_two_endings_at_once_leave_one_terminal_that_everybody_writes_down(
    life: dict[str, Any], log: io.StringIO
) -> None:
    for count, (first, second) in enumerate(itertools.product(ENDINGS, ENDINGS)):
        async with orchestrator(life, retry={"attempts": 1}) as host, asyncio.timeout(20):
            adapter = adapter_of(host, "r0")
            assert isinstance(adapter, MockAdapter)
            reader = Reader(host, job_id=f"j{count}", timeout_s=60)
            await reader.rounds(15)
            async with asyncio.TaskGroup() as endings:
                endings.create_task(reader.end(first))
                endings.create_task(reader.end(second))
            if (first, second) == ("drain", "drain"):
                await reader.end("cancel")  # a drain lets a task go on
            await reader.reading
            await eventually(lambda: not host.live_tasks)
            status = host.task(reader.stream.job_id)

            assert find_violation(reader.events) is None, (first, second)
            assert status is not None
            assert status.terminal == reader.stream.terminal == reader.events[-1], (first, second)
            assert not adapter.running

    assert all(record["level"] != "error" for record in records(log))


@pytest.mark.spec("ORCH-3062-017")
async def test_status_log_metrics_and_rollout_agree_with_the_streams_under_a_storm(log: io.StringIO) -> None:
    ways = ("end", "deadline", "cancel", "close", "leave", "stop")
    async with orchestrator({"delay_s": 0.002, "slots": 200}, {"delay_s": 0.002, "slots": 200}) as host:
        readers = {
            f"{way}-{number}": Reader(
                host,
                job_id=f"{way}-{number}",
                max_tokens=3 if way == "end" else 500,
                timeout_s=0.05 + number / 1000 if way == "deadline" else 30,
            )
            for number in range(25)
            for way in ways
        }
        with anyio.fail_after(20):
            for job_id, reader in readers.items():
                await asyncio.sleep(0)
                if job_id.startswith("leave"):
                    reader.reading.cancel()
                elif not job_id.startswith(("end", "deadline")):
                    await reader.end(job_id.partition("-")[0])
            await asyncio.wait([reader.reading for reader in readers.values()])
            await eventually(lambda: not host.live_tasks)

        said = {job_id: reader.stream.terminal or End(finish_reason="cancelled") for job_id, reader in readers.items()}
        statuses = {job_id: host.task(job_id) for job_id in readers}
        metrics = host.collect_metrics()
        rollout = host.rollout_report().pools[0]

    outcomes = {job_id: _outcome(terminal) for job_id, terminal in said.items()}
    assert {outcome for job_id, outcome in outcomes.items() if job_id.startswith("deadline")} == {"deadline_exceeded"}
    assert all(
        reader.events[-1] == reader.stream.terminal
        for job_id, reader in readers.items()
        if not job_id.startswith("leave")
    )
    for job_id, status in statuses.items():
        assert status is not None
        assert status.terminal is not None
        assert _outcome(status.terminal) == outcomes[job_id]
    assert {
        record["job_id"]: record["outcome"] for record in records(log) if "outcome" in record and "job_id" in record
    } == outcomes
    counted: Counter[str] = Counter()
    for family in metrics.collect():
        for sample in family.samples:
            if sample.name == "worker_adapter_tasks_total":
                counted[sample.labels["outcome"]] += int(sample.value)
    assert counted == Counter(outcomes.values())
    assert rollout.errors == {"deadline_exceeded": 25}
    assert rollout.tasks == sum(outcome != "cancelled" for outcome in outcomes.values())


def _outcome(terminal: End | Error) -> str:
    return terminal.finish_reason if isinstance(terminal, End) else terminal.code
