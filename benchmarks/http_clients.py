"""What a chunk, a request, 4.9 MB and an idle stream cost over HTTP/1.1: ours beside httpx, aiohttp and a floor.

The floor is a protocol of asyncio that knows what comes: it splits at `data: `, counts, and checks nothing.
All take turns in one process; memory is measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import perf_counter, process_time
from typing import Any, Protocol, cast

from http_cannon import EVENT
from servers import http_cannon, pin_client

TENSOR = bytes(4_915_200)
"""One picture of 640 × 640 as FP32."""
DATA = EVENT[6:-2]


class Client(Protocol):
    async def stream(self, path: str) -> int: ...
    async def post(self, path: str, body: bytes) -> int: ...
    async def idle(self, path: str) -> None: ...
    async def aclose(self) -> None: ...


class Kit:
    def __init__(self, url: str) -> None:
        from adapter_kit.http import HttpClient

        self.client = HttpClient(url)
        self.held = AsyncExitStack()

    async def stream(self, path: str) -> int:
        from adapter_kit.sse import SseReader

        reader, count = SseReader(), 0
        async with self.client.stream("POST", path, body=b"{}", timeout_s=120, headers_s=60, stall_s=60) as answer:
            async for data in answer.chunks():
                for event in reader.feed(data):
                    count += event.data == DATA
        return count

    async def post(self, path: str, body: bytes) -> int:
        return len((await self.client.request("POST", path, body=body, timeout_s=120)).body)

    async def idle(self, path: str) -> None:
        exchange = self.client.stream("POST", path, body=b"{}", timeout_s=120, headers_s=60, stall_s=60)
        answer = await self.held.enter_async_context(exchange)
        await answer.next_chunk()

    async def aclose(self) -> None:
        await self.client.aclose()


class Httpx:
    def __init__(self, url: str) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self.client = httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False)
        self.held = AsyncExitStack()

    async def stream(self, path: str) -> int:
        count = 0
        async with self.client.stream("POST", path, content=b"{}") as answer:
            async for line in answer.aiter_lines():
                count += line.startswith("data: ")
        return count

    async def post(self, path: str, body: bytes) -> int:
        return len((await self.client.post(path, content=body)).content)

    async def idle(self, path: str) -> None:
        answer = await self.held.enter_async_context(self.client.stream("POST", path, content=b"{}"))
        self.held.push_async_callback(aiter(answer.aiter_raw()).__anext__)

    async def aclose(self) -> None:
        await self.client.aclose()


class Aiohttp:
    def __init__(self, url: str) -> None:
        import aiohttp

        self.url = url
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120),
            headers={"Accept-Encoding": "identity"},
        )  # fmt: skip
        self.held = AsyncExitStack()

    async def stream(self, path: str) -> int:
        count = 0
        async with self.client.post(self.url + path, data=b"{}") as answer:
            async for line in answer.content:
                count += line.startswith(b"data: ")
        return count

    async def post(self, path: str, body: bytes) -> int:
        async with self.client.post(self.url + path, data=body) as answer:
            return len(await answer.read())

    async def idle(self, path: str) -> None:
        answer = await self.held.enter_async_context(self.client.post(self.url + path, data=b"{}"))
        await answer.content.readany()

    async def aclose(self) -> None:
        await self.client.close()


class Floor:
    def __init__(self, url: str) -> None:
        self.port = int(url.rpartition(":")[2])
        self.kept: list[_FloorProtocol] = []

    async def exchange(self, path: str, body: bytes) -> _FloorProtocol:
        loop = asyncio.get_running_loop()
        protocol = self.kept.pop() if self.kept else None
        if protocol is None:
            _, protocol = await loop.create_connection(_FloorProtocol, "127.0.0.1", self.port)
        protocol.begin(loop.create_future())
        protocol.transport.write(
            b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))
        )
        protocol.transport.write(body)
        return protocol

    async def stream(self, path: str) -> int:
        protocol = await self.exchange(path, b"{}")
        await protocol.done
        self.kept.append(protocol)
        return protocol.events

    async def post(self, path: str, body: bytes) -> int:
        protocol = await self.exchange(path, body)
        protocol.length = 17 if path == "/small" else len(body)
        await protocol.done
        self.kept.append(protocol)
        return protocol.length

    async def idle(self, path: str) -> None:
        protocol = await self.exchange(path, b"{}")
        await protocol.begun.wait()
        self.kept.insert(0, protocol)

    async def aclose(self) -> None:
        for protocol in self.kept:
            protocol.transport.abort()


class _FloorProtocol(asyncio.Protocol):
    transport: asyncio.Transport
    done: asyncio.Future[None]

    def begin(self, done: asyncio.Future[None]) -> None:
        self.begun = asyncio.Event()
        self.done, self.events, self.length, self.size, self.tail = done, 0, -1, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        self.begun.set()
        if self.length >= 0:
            if self.size > self.length:  # and the head, which is shorter than the body
                self.done.done() or self.done.set_result(None)
            return
        pieces = (self.tail + data).split(b"data: ")
        self.events += len(pieces) - 1
        self.tail = pieces[-1][-5:]
        if data.endswith(b"0\r\n\r\n") and not self.done.done():
            self.done.set_result(None)


CLIENTS: dict[str, Callable[[str], Client]] = {"floor": Floor, "kit": Kit, "aiohttp": Aiohttp, "httpx": Httpx}


async def _timed(work: Callable[[], Awaitable[int]], expected: int, units: int) -> dict[str, float]:
    began, cpu = perf_counter(), process_time()
    found = await work()
    cpu, took = process_time() - cpu, perf_counter() - began
    if found != expected:
        raise RuntimeError(f"{found} came of {expected}")
    return {"cpu_us": cpu / units * 1e6, "wall_us": took / units * 1e6}


async def _rounds(url: str, rounds: int, scale: float) -> dict[str, dict[str, list[dict[str, float]]]]:
    events, posts, tensors = (max(2, int(count * scale)) for count in (320, 400, 16))
    events = events // 64 * 64 or 64

    async def streams(client: Client, per: int) -> int:
        return sum(await asyncio.gather(*(client.stream(f"/stream/{events}/{per}") for _ in range(64))))

    async def small(client: Client) -> int:
        return sum([await client.post("/small", b'{"question": 1}') for _ in range(posts)])

    async def together(client: Client) -> int:
        return sum(await asyncio.gather(*(client.post("/small", b'{"question": 1}') for _ in range(posts))))

    async def large(client: Client) -> int:
        return sum([await client.post("/large", TENSOR) for _ in range(tensors)])

    rows: dict[str, tuple[Callable[[Client], Awaitable[int]], int, int]] = {
        f"event, 64 streams × {events}, 64 per write": (lambda client: streams(client, 64), 64 * events, 64 * events),
        f"event, 64 streams × {events}, 1 per write": (lambda client: streams(client, 1), 64 * events, 64 * events),
        "small POST, one after another": (small, 17 * posts, posts),
        f"small POST, {posts} at once": (together, 17 * posts, posts),
        "4.9 MB there and back": (large, len(TENSOR) * tensors, tensors),
    }
    found: dict[str, dict[str, list[dict[str, float]]]] = {row: {name: [] for name in CLIENTS} for row in rows}
    clients = {name: make(url) for name, make in CLIENTS.items()}
    for number in range(rounds + 1):
        for row, (work, expected, units) in rows.items():
            for name, client in clients.items():
                measured = await _timed(lambda work=work, client=client: work(client), expected, units)  # type: ignore[misc]
                if number:  # the first makes connections and imports
                    found[row][name].append(measured)
    for client in clients.values():
        await client.aclose()
    return found


def _rss_kb() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1024


async def _idle(name: str, url: str, count: int) -> float:
    client = CLIENTS[name](url)
    await client.post("/small", b"{}")
    await client.idle("/idle")
    before = _rss_kb()
    for _ in range(count):
        await client.idle("/idle")
    grown = (_rss_kb() - before) / count
    await client.aclose()
    return grown


def _median(values: list[dict[str, float]], key: str) -> float:
    return statistics.median(value[key] for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much work each round is")
    parser.add_argument("--idle", type=int, default=1000, help="idle streams whose memory is measured")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--idle-of", nargs=2, metavar=("CLIENT", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.idle_of:
        print(asyncio.run(_idle(*options.idle_of, options.idle)), flush=True)
        os._exit(0)  # some clients take their time to let a thousand streams go
    cores = pin_client()
    if options.loop == "uvloop":
        import uvloop

        run: Callable[..., Any] = uvloop.run
    else:
        run = asyncio.run
    with http_cannon() as url:
        rows = run(_rounds(url, options.rounds, options.scale))
        again = [sys.executable, __file__, "--idle", str(options.idle), "--idle-of"]
        idle = {
            name: float(subprocess.run([*again, name, url], check=True, capture_output=True, text=True).stdout)
            for name in CLIENTS
        }
    if options.json:
        print(json.dumps({"rows": rows, "idle_kb": idle}))
        return
    print(f"µs of CPU, median of {options.rounds} rounds; {options.loop}; {cores}")
    print(f"{'':44}" + "".join(f"{name:>12}" for name in CLIENTS))
    for row, found in rows.items():
        print(f"{row:44}" + "".join(f"{_median(found[name], 'cpu_us'):12.1f}" for name in CLIENTS))
    print(f"{'KB of memory per idle stream':44}" + "".join(f"{idle[name]:12.1f}" for name in CLIENTS))


if __name__ == "__main__":
    main()
