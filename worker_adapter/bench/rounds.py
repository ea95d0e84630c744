"""Clients that take turns: every one has its window in every round, beside nothing else of this process."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

import anyio

from worker_adapter.bench.agreement import Agreement
from worker_adapter.bench.plan import Plan
from worker_adapter.bench.samples import Answer, Window

_KEPT_ARRAYS = 4
"""Answers of a window of tensors whose contents are compared; more would take memory for nothing."""
_LOOK_S = 0.05
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Contender:
    """One client. `ask` runs one task, and tells its failure in the answer."""

    name: str
    ask: Callable[[], Awaitable[Answer]]
    note: str = ""
    """What it does, where that is not all that ours does."""


@dataclass
class Course:
    """What has been measured so far: windows by client, of whole rounds only."""

    agreement: Agreement
    windows: dict[str, list[Window]] = field(default_factory=dict)
    stopped: str | None = None
    """What ended it before its last round: `time`, or a signal's name."""

    @property
    def rounds(self) -> int:
        return min(map(len, self.windows.values()), default=0)

    def cut(self) -> None:
        """Forget the round that was under way."""
        done = self.rounds
        for windows in self.windows.values():
            del windows[done:]


async def run_rounds(contenders: list[Contender], plan: Plan, course: Course, tell: Callable[[str], None]) -> None:
    """Fill `course`; whoever cancels this finds there what was measured until then.

    Args:
        contenders: Ours first. Who begins a round changes from round to round.
        tell: Told before each round.
    """
    course.windows.update({contender.name: [] for contender in contenders})
    with anyio.move_on_after(plan.seconds) as limit:
        for number in range(plan.rounds + 1):
            tell(f"round {number} of {plan.rounds}" if number else "warming up")
            first = max(number - 1, 0) % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                window = await _window(contender, plan, plan.tasks if number else plan.warm_up)
                course.agreement.look(contender.name, window.answers)
                for answer in window.answers:
                    answer.content = None
                if number:
                    course.windows[contender.name].append(window)
    if limit.cancelled_caught:
        course.stopped = "time"


async def _window(contender: Contender, plan: Plan, tasks: int) -> Window:
    answers: list[Answer] = []
    left = iter(range(tasks))

    async def one_after_another(left: Iterator[int]) -> None:
        for _ in left:
            answer = await contender.ask()
            if plan.kind == "tensors" and len(answers) >= _KEPT_ARRAYS:
                answer.content = None
            answers.append(answer)

    gc.collect()
    async with _watched(plan.pause_ms > 0) as grown:
        wall, cpu = perf_counter(), process_time()
        async with anyio.create_task_group() as group:
            for _ in range(min(plan.streams, tasks)):
                group.start_soon(one_after_another, left)
        cpu, wall = process_time() - cpu, perf_counter() - wall
    return Window(answers, wall, cpu, grown())


@asynccontextmanager
async def _watched(wanted: bool) -> AsyncIterator[Callable[[], float | None]]:
    """Look at this process's memory now and then; what is yielded tells by how many KiB it grew at most."""
    before = _rss_kib() if wanted else None
    largest = before

    async def look() -> None:
        nonlocal largest
        while True:
            await anyio.sleep(_LOOK_S)
            largest = max(largest or 0.0, _rss_kib() or 0.0)

    if before is None:
        yield lambda: None
        return
    async with anyio.create_task_group() as group:
        group.start_soon(look)
        yield lambda: None if largest is None else largest - before
        group.cancel_scope.cancel()


def _rss_kib() -> float | None:
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    except OSError:  # elsewhere than on Linux
        return None
