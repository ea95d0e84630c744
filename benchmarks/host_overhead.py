"""What the orchestrator costs between an adapter and whoever reads: in process, and over server-sent events.

latency: tokens that carry the time they were made, one per stream every 20 ms; how late they are read, directly from
    the adapter, through the orchestrator, and through its HTTP face by a client in another process.
first token: from the submission to the first token of an engine that has it at once; all streams are begun together,
    and over HTTP each opens a connection of its own.
throughput: tokens that are ready at once; CPU microseconds per token in the serving process, and what a core does.
memory: resident memory per open stream.
prediction: how far `predicted_start_ms` is from the wait that came true, in a queue that is drained by a few slots.

Every row of a table was measured in one run, the ways taking turns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from time import perf_counter, process_time
from typing import Any

from adapter_api import End, PluginHost, Started, TaskRequest, Token, TokenEvent, TokenStream
from adapter_api.hookspecs import hookimpl
from adapter_api.mock_plugin import worker_adapter_register
from adapter_api.testing import MockAdapter
from orchestrator import Orchestrator
from orchestrator.config import HostSettings
from orchestrator.serve import serving

PACE_S = 0.02
Submit = Callable[[TaskRequest], TokenStream]


class Stamping(MockAdapter):
    """Tokens whose text is the time they were made: paced, or as many as fit into a batch, or none for ever."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent | list[TokenEvent]]:  # type: ignore[override]
        options, count = task.parameters_for("mock"), task.max_tokens or 1
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        if options.get("idle"):
            yield Token(0, "x")
            await asyncio.Event().wait()
        batch = int(options.get("batch", 0))
        if batch:
            for start in range(0, count, batch):
                await asyncio.sleep(0)
                yield [Token(index, " word") for index in range(start, min(start + batch, count))]
        else:
            for index in range(count):
                yield Token(index, repr(perf_counter()))
                await asyncio.sleep(PACE_S)
        yield End(finish_reason="stop")


class Plugin:
    @hookimpl
    def worker_adapter_register(self) -> Any:
        import msgspec

        return msgspec.structs.replace(worker_adapter_register(), adapter=f"{__name__}:Stamping")


def task(count: int, **options: int) -> TaskRequest:
    parameters = {f"mock.{name}": value for name, value in options.items()}
    return TaskRequest(model="mock", prompt="p", max_tokens=count, parameters=parameters)


@asynccontextmanager
async def host(**pool: Any) -> AsyncIterator[tuple[Orchestrator, str]]:
    plugins = PluginHost()
    plugins.add("mock", Plugin())
    replica = {"id": "r0", "slots": pool.pop("slots", 10_000)}
    settings = HostSettings.model_validate({
        "pools": [{"adapter": "mock", "replicas": [replica], **pool}],
        "server": {"port": 0, "shutdown_grace_s": 0.1}, "read_environment": False,
    })  # fmt: skip
    async with serving(settings, plugins=plugins) as running:
        yield running.orchestrator, running.ready.url


# -- readers ----------------------------------------------------------------------------------------------------------


async def read_lateness(submit: Submit, count: int, late: list[float], first: list[float]) -> None:
    began, seen = perf_counter(), False
    async for events in submit(task(count)).batches():
        now = perf_counter()
        tokens = [event for event in events if isinstance(event, Token)]
        if tokens and not seen:
            seen = True
            first.append(now - began)
        late += [now - float(event.text) for event in tokens if event.index]


async def read_over_http(address: tuple[str, int], body: bytes, on_token: Callable[[bytes, float], None]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    head = f"POST /v2/tasks HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    unread = b""
    while data := await reader.read(1 << 16):
        now = perf_counter()
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            if line.startswith(b'data: {"type":"token"'):
                on_token(line, now)
    writer.close()


async def reader_process(url: str, streams: int, count: int, batch: int) -> None:
    """Run in a process of its own: read as fast as it comes, once told to."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = task(count, batch=batch).model_dump_json(include={"model", "prompt", "max_tokens", "parameters"}).encode()
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(read_over_http((host, int(port)), body, lambda line, now: None) for _ in range(streams)))


async def client(url: str, streams: int, count: int) -> dict[str, float]:
    """Run in a process of its own: how late tokens are over HTTP."""
    host, _, port = url.removeprefix("http://").partition(":")
    late: list[float] = []
    first: list[float] = []
    body = task(count).model_dump_json(exclude_defaults=True, exclude={"job_id"}).encode()

    async def read() -> None:
        began = perf_counter()

        def on_token(line: bytes, now: float) -> None:
            token = json.loads(line[6:])
            if token["index"]:
                late.append(now - float(token["text"]))
            else:
                first.append(now - began)

        await read_over_http((host, int(port)), body, on_token)

    await read()  # a first request loads what the server loads late
    late.clear()
    first.clear()
    for _ in range(waves(streams)):
        await asyncio.gather(*(read() for _ in range(streams)))
    return figures(late, first)


def waves(streams: int) -> int:
    """How often the same is done in one round: a percentile wants some values."""
    return max(1, 8 // streams)


def figures(late: list[float], first: list[float]) -> dict[str, float]:
    late.sort()
    first.sort()
    return {
        "late p50 us": late[len(late) // 2] * 1e6, "late p99 us": late[len(late) * 99 // 100] * 1e6,
        "first p50 us": first[len(first) // 2] * 1e6, "first p99 us": first[len(first) * 99 // 100] * 1e6,
    }  # fmt: skip


# -- tables -----------------------------------------------------------------------------------------------------------


async def latency(rounds: int) -> list[dict[str, Any]]:
    rows = []
    async with host() as (orchestrator, url), Stamping() as adapter:
        for streams in (1, 16, 64, 256):
            found: dict[str, list[dict[str, float]]] = {"direct": [], "orchestrator": [], "http": []}
            count = 20
            for _ in range(rounds):
                for name, submit in (("direct", adapter.submit), ("orchestrator", orchestrator.submit)):
                    late: list[float] = []
                    first: list[float] = []
                    for _ in range(waves(streams)):
                        await asyncio.gather(*(read_lateness(submit, count, late, first) for _ in range(streams)))
                    found[name].append(figures(late, first))
                found["http"].append(await _in_another_process(url, streams, count))
            middle = {
                name: {key: statistics.median(each[key] for each in measured) for key in measured[0]}
                for name, measured in found.items()
            }
            for name, row in middle.items():
                added = {f"added: {key}": value - middle["direct"][key] for key, value in row.items()}
                rows.append(
                    {
                        "streams": streams,
                        "way": name,
                        **row,
                        **(added if name != "direct" else dict.fromkeys(added, 0.0)),
                    }
                )
    return rows


async def _in_another_process(url: str, streams: int, count: int) -> dict[str, float]:
    arguments = [sys.executable, __file__, "--client", url, str(streams), str(count)]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    found: dict[str, float] = json.loads(out)
    return found


async def throughput(rounds: int) -> list[dict[str, Any]]:
    rows, streams, count = [], 32, 2000
    async with host() as (orchestrator, url), Stamping() as adapter:

        async def in_process(submit: Submit, batch: int) -> float:
            async def read() -> None:
                async for _ in submit(task(count, batch=batch)).batches():
                    pass

            began = process_time()
            await asyncio.gather(*(read() for _ in range(streams)))
            return process_time() - began

        async def over_http(batch: int) -> float:
            arguments = [sys.executable, __file__, "--reader", url, str(streams), str(count), str(batch)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = await asyncio.create_subprocess_exec(*arguments, **pipes)  # type: ignore[arg-type]
            assert process.stdout is not None
            await process.stdout.readline()
            began = process_time()
            await asyncio.wait_for(process.communicate(b"go\n"), 120)
            return process_time() - began

        ways: dict[str, Callable[[int], Awaitable[float]]] = {
            "direct": lambda batch: in_process(adapter.submit, batch),
            "orchestrator": lambda batch: in_process(orchestrator.submit, batch),
            "http, reader elsewhere": over_http,
        }
        for batch in (1, 8, 64):
            best = dict.fromkeys(ways, float("inf"))
            for _ in range(rounds):
                for way, run in ways.items():
                    best[way] = min(best[way], await run(batch) / streams / count)
            rows += [
                {"ready at once": batch, "way": way, "us_per_token": s * 1e6, "tokens/s per core": round(1 / s)}
                for way, s in best.items()
            ]
    return rows


async def memory(streams: int) -> list[dict[str, Any]]:
    _raise_file_limit(streams)
    async with host() as (orchestrator, url):
        arguments = [sys.executable, __file__, "--holder", url, "100", str(streams)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*arguments, **pipes)  # type: ignore[arg-type]
        assert process.stdout is not None
        assert process.stdin is not None
        rows: list[tuple[int, int]] = []
        for _ in range(2):
            await asyncio.wait_for(process.stdout.readline(), 120)
            gc.collect()
            rows.append((len(orchestrator.live_tasks), _resident()))
            process.stdin.write(b"go on\n")
        await process.wait()
    (few, before), (many, after) = rows
    return [{"streams": many, "kb_per_stream": (after - before) / (many - few) / 1024}]


async def holder_process(url: str, *targets: int) -> None:
    """Run in a process of its own: hold so many streams open, each target until told to go on."""
    _raise_file_limit(targets[-1])
    name, _, port = url.removeprefix("http://").partition(":")
    body = task(1, idle=1).model_dump_json(include={"model", "prompt", "max_tokens", "parameters"}).encode()
    head = f"POST /v2/tasks HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    sockets: list[asyncio.StreamWriter] = []
    for target in targets:
        while len(sockets) < target:
            reader, writer = await asyncio.open_connection(name, int(port))
            writer.write(head + body)
            await reader.readuntil(b'"type":"token"')
            sockets.append(writer)
        print("there", flush=True)
        sys.stdin.readline()
    for writer in sockets:
        writer.close()


def _raise_file_limit(streams: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * streams + 100), hard))


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def prediction(tasks: int) -> list[dict[str, Any]]:
    rng, errors, waits = random.Random(1), [], []
    async with host(slots=4) as (orchestrator, _):

        async def run(stream: TokenStream) -> None:
            started = end = None
            async for event in stream:
                started = event if isinstance(event, Started) else started
                end = event if isinstance(event, End) else end
            if started and end and started.predicted_start_ms and end.timings and end.timings.queue_ms:
                errors.append(abs(started.predicted_start_ms - end.timings.queue_ms))
                waits.append(end.timings.queue_ms)

        for _ in range(3):
            await run(orchestrator.submit(task(5)))
        await asyncio.gather(*(run(orchestrator.submit(task(rng.randint(1, 9)))) for _ in range(tasks)))
    return [{
        "tasks": len(errors), "mean wait ms": statistics.mean(waits), "mean error ms": statistics.mean(errors),
        "error as part of the wait": statistics.mean(errors) / statistics.mean(waits),
    }]  # fmt: skip


def run(measured: Coroutine[Any, Any, list[dict[str, Any]]], loop: str) -> list[dict[str, Any]]:
    if loop == "asyncio":
        return asyncio.run(measured)
    import uvloop

    return uvloop.run(measured)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    heads = list(rows[0])
    print(" | ".join(heads))
    for row in rows:
        print(" | ".join(f"{row[head]:.2f}" if isinstance(row[head], float) else str(row[head]) for head in heads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=2000, help="open at once, for the memory")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="the serving event loop")
    parser.add_argument("--only", choices=("latency", "throughput", "memory", "prediction"), help="one table")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", nargs=3, metavar=("URL", "STREAMS", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--holder", nargs=3, metavar=("URL", "FEW", "MANY"), help=argparse.SUPPRESS)
    parser.add_argument("--reader", nargs=4, metavar=("URL", "STREAMS", "COUNT", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.holder:
        url, *numbers = arguments.holder
        asyncio.run(holder_process(url, *map(int, numbers)))
        return
    if arguments.reader:
        url, *numbers = arguments.reader
        asyncio.run(reader_process(url, *map(int, numbers)))
        return
    if arguments.client:
        url, streams, count = arguments.client
        print(json.dumps(asyncio.run(client(url, int(streams), int(count)))))
        return
    wanted: dict[str, tuple[str, Callable[[], Coroutine[Any, Any, list[dict[str, Any]]]]]] = {
        "latency": ("latency and first token", lambda: latency(arguments.rounds)),
        "throughput": ("throughput: CPU per token", lambda: throughput(arguments.rounds)),
        "memory": ("memory", lambda: memory(arguments.streams)),
        "prediction": ("prediction", lambda: prediction(200)),
    }
    tables = {
        title: run(measure(), arguments.loop)
        for name, (title, measure) in wanted.items()
        if arguments.only in (None, name)
    }
    if arguments.json:
        print(json.dumps(tables))
        return
    for title, rows in tables.items():
        show(title, rows)


if __name__ == "__main__":
    main()
