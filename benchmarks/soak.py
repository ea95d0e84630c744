"""Whether anything is left over: tasks one after another, many at once, and many that are left early.

Against the real Triton, started for the purpose. After each phase the client must hold what it held before: no live
task, no busy slot, no call, no asyncio task, no file; and the engine must run nothing. Memory may grow by
`--allowed-mib` from the end of a phase's warm-up to its end: the allocator's own unrest is a few MiB, while 1 KiB lost
per task is 10 MiB in the default run. Exits 1 when anything is left.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from engine_side import running, slow_task
from servers import triton

from adapter_api import End, Error, TaskRequest, Token
from triton_adapter import TritonAdapter, TritonSettings

Work = Callable[[TritonAdapter], Awaitable[None]]


@dataclass
class Held:
    """What this process holds, and what the engine does."""

    rss_mib: float
    live_tasks: int
    busy_slots: int
    calls: int
    asyncio_tasks: int
    open_files: int
    running_in_engine: int


@dataclass
class Phase:
    name: str
    warm_up: Work
    work: Work


async def held(adapter: TritonAdapter) -> Held:
    left = await running(adapter)
    # What a cancelled call leaves behind goes in the event loop's next rounds.
    ends = perf_counter() + 5
    while _busy(adapter) and perf_counter() < ends:  # noqa: ASYNC110 - nothing tells when they are all gone
        await asyncio.sleep(0.01)
    gc.collect()
    return Held(_rss_mib(), len(adapter.live_jobs), adapter._engine.slots.in_flight, _calls(adapter),
                len(asyncio.all_tasks()), _open_files(), left)  # fmt: skip


def _busy(adapter: TritonAdapter) -> int:
    return len(adapter.live_jobs) + adapter._engine.slots.in_flight + _calls(adapter)


def _calls(adapter: TritonAdapter) -> int:
    channel = adapter._engine.transport._channel  # type: ignore[attr-defined]
    return sum(len(connection.calls) for connection in channel._all) if channel is not None else 0


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def whole(adapter: TritonAdapter, task: TaskRequest) -> None:
    """Read a task to its end, and insist that it went well."""
    tokens = 0
    async for event in adapter.submit(task):
        if type(event) is Token:
            tokens += 1
        elif type(event) is Error:
            raise RuntimeError(f"a task failed: {event.message}")
        elif type(event) is End and tokens != task.max_tokens:
            raise RuntimeError(f"a task brought {tokens} tokens, not {task.max_tokens}")


def one_after_another(count: int) -> Work:
    async def work(adapter: TritonAdapter) -> None:
        for _ in range(count):
            await whole(adapter, slow_task(tokens=2, delay_ms=0))

    return work


def at_once(count: int, *, times: int) -> Work:
    async def work(adapter: TritonAdapter) -> None:
        for _ in range(times):
            await asyncio.gather(*(whole(adapter, slow_task(tokens=10, delay_ms=100)) for _ in range(count)))

    return work


def left_early(count: int, *, times: int) -> Work:
    """Streams that are closed, cancelled by name, or whose reader is cancelled, after the first token, in turn."""

    async def leave(adapter: TritonAdapter, index: int) -> None:
        task = slow_task(tokens=1000, delay_ms=50)
        async with adapter.submit(task) as stream:
            async for event in stream:
                if type(event) is Token:
                    break
            if index % 3 == 0:
                await adapter.cancel(task.job_id)
            elif index % 3 == 1:
                reader = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                reader.cancel()
                await asyncio.wait([reader])

    async def work(adapter: TritonAdapter) -> None:
        for _ in range(times):
            await asyncio.gather(*(leave(adapter, index) for index in range(count)))

    return work


async def run(
    url: str, phases: list[Phase], allowed_mib: float, seconds: float
) -> tuple[list[dict[str, object]], list[str]]:
    rows: list[dict[str, object]] = []
    wrong: list[str] = []
    settings = TritonSettings(url=url, timeout_s=300, first_token_timeout_s=120)
    async with asyncio.timeout(seconds), TritonAdapter(settings) as adapter:
        for phase in phases:
            began = await held(adapter)
            await phase.warm_up(adapter)
            warm = await held(adapter)
            at = perf_counter()
            await phase.work(adapter)
            took = perf_counter() - at
            ended = await held(adapter)
            rows.append({"phase": phase.name, "seconds": took, "start": asdict(began), "warm": asdict(warm),
                         "end": asdict(ended)})  # fmt: skip
            wrong += [f"{phase.name}: {text}" for text in left_over(warm, ended, allowed_mib)]
    return rows, wrong


def left_over(warm: Held, ended: Held, allowed_mib: float) -> list[str]:
    """Return what the end has that it should not have."""
    found = []
    if ended.rss_mib - warm.rss_mib > allowed_mib:
        found.append(f"memory grew by {ended.rss_mib - warm.rss_mib:.1f} MiB, more than {allowed_mib:g}")
    for name in ("live_tasks", "busy_slots", "calls", "running_in_engine"):
        if getattr(ended, name):
            found.append(f"{name} = {getattr(ended, name)}, not 0")
    for name in ("asyncio_tasks", "open_files"):
        if getattr(ended, name) > getattr(warm, name):
            found.append(f"{name} grew from {getattr(warm, name)} to {getattr(ended, name)}")
    return found


def show(rows: list[dict[str, object]]) -> None:
    names = list(Held.__annotations__)
    print(f"{'':34}" + "".join(f"{name:>18}" for name in names))
    for row in rows:
        for moment in ("start", "warm", "end"):
            title = f"{row['phase']}, {row['seconds']:.0f} s" if moment == "start" else f"  {moment}"
            figures = row[moment]
            assert isinstance(figures, dict)
            print(f"{title:34}" + "".join(f"{figures[name]:18.4g}" for name in names))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--times", type=int, default=3, help="how often so many streams run at once")
    parser.add_argument("--allowed-mib", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=600, help="give up after that")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tasks, streams, times = options.tasks, options.streams, options.times
    phases = [
        Phase(f"{tasks} tasks in sequence", one_after_another(max(tasks // 10, 1)), one_after_another(tasks)),
        Phase(f"{times} × {streams} streams at once", at_once(streams, times=2), at_once(streams, times=times)),
        Phase(f"{times} × {streams} left early", left_early(streams, times=2), left_early(streams, times=times)),
    ]
    with triton() as server:
        rows, wrong = asyncio.run(run(server.grpc_url, phases, options.allowed_mib, options.seconds))
    if options.json:
        print(json.dumps({"rows": rows, "left_over": wrong}))
    else:
        show(rows)
    for text in wrong:
        print(f"left over: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
