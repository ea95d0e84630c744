"""What the journal costs a kept task: CPU and time per event and per task, beside the same run without it.

Tasks run one after another and 64 at once, their events one by one with a trip through the event loop before each, as a
network brings them. Rounds with and without the journal are interleaved; the CPU is that of the whole process, so the
thread that writes is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import anyio

from adapter_api import End, Started, Token, TokenEvent
from orchestrator.pools.status import TaskStatus
from orchestrator.work.journal import Journal
from orchestrator.work.keep import KeptTasks

AT_ONCE = (1, 64)
SHORT = 2


async def events(tokens: int) -> AsyncIterator[list[TokenEvent]]:
    yield [Started(job_id="j", engine="bench", model="m")]
    for index in range(tokens):
        await asyncio.sleep(0)
        yield [Token(index, " word")]
    yield [End(finish_reason="stop")]


async def close() -> None:
    pass


def status(job_id: str) -> TaskStatus:
    return TaskStatus(job_id=job_id, state="running", model="m", pool_id="p", priority="interactive")


async def run(tasks: int, tokens: int, at_once: int, journal: Journal | None) -> tuple[float, float]:
    """Return the CPU and the wall time in seconds of `tasks` tasks with so many tokens each."""
    kept = KeptTasks(tasks=tasks + 1, events=10**6, keep_s=3600, journal=journal, status_of=status)
    places = asyncio.Semaphore(at_once)
    name = f"{perf_counter()}"

    async def one(number: int) -> None:
        async with places:
            log = await kept.start(f"{name}-{number}", None, events(tokens), close)
            async for _ in log.read(0):
                pass

    async with anyio.create_task_group() as kept.group:
        cpu, wall = process_time(), perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(one, number)
        spent = process_time() - cpu, perf_counter() - wall
        kept.group.cancel_scope.cancel()
    return spent


async def measure(rounds: int, tasks: int, tokens: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.open(Path(folder) / "journal", max_bytes=2**30, max_age_s=3600, events=10**6)
        try:
            for at_once in AT_ONCE:
                samples: dict[tuple[int, bool], list[tuple[float, float]]] = {}
                for _ in range(rounds):
                    for length in (SHORT, tokens):
                        for with_journal in (False, True):
                            spent = await run(tasks, length, at_once, journal if with_journal else None)
                            samples.setdefault((length, with_journal), []).append(spent)
                found[f"{at_once} at once"] = _row(samples, tasks, tokens)
        finally:
            await journal.aclose()
    return found


def _row(samples: dict[tuple[int, bool], list[tuple[float, float]]], tasks: int, tokens: int) -> dict[str, float]:
    row: dict[str, float] = {}
    for position, kind in enumerate(("cpu", "wall")):
        mid = {key: median(each[position] for each in spent) for key, spent in samples.items()}
        for with_journal, label in ((False, "without"), (True, "with")):
            event = (mid[tokens, with_journal] - mid[SHORT, with_journal]) / (tasks * (tokens - SHORT))
            row[f"{kind} µs per event, {label}"] = round(event * 1e6, 1)
            row[f"{kind} µs per task of {SHORT} tokens, {label}"] = round(mid[SHORT, with_journal] / tasks * 1e6, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = asyncio.run(measure(chosen.rounds, chosen.tasks, chosen.tokens))
    if chosen.json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        print(name)
        for figure, value in row.items():
            print(f"  {figure:<45} {value:>9.1f}")


if __name__ == "__main__":
    main()
