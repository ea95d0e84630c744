"""What an inference over HTTP costs against `tritonclient.http.aio`, and what a reader that stalls keeps in memory.

Against the real Triton, started for the purpose, and its `tensors` model, which sends back what it got: CPU of this
process per inference, the clients taking turns. tritonclient's default lets the server gzip its answers; a second row
has it ask for none, which is what is fair to the client's own cost.

Then a flood: a server that streams tokens as fast as they are taken, and a reader that takes the first and no more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
from servers import pin_client, triton
from tritonclient.http.aio import InferenceServerClient, InferInput, InferRequestedOutput

from adapter_api import InferRequest, TaskRequest, Tensor, Token
from triton_adapter import TritonAdapter, TritonSettings

SIZES = {"16 numbers": 16, "4.9 MB": 640 * 640 * 3}
OURS, THEIRS, THEIRS_PLAIN = "infer", "tritonclient", "tritonclient, no gzip"
Once = Callable[[np.ndarray], Awaitable[np.ndarray]]

_CONFIG = {
    "name": "flood", "backend": "python", "max_batch_size": 0,
    "input": [{"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}],
    "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]}],
    "model_transaction_policy": {"decoupled": True},
}  # fmt: skip
_EVENT = b'data: {"model_name":"flood","model_version":"1","text_output":"token "}\n\n'
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


async def measure(url: str, rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Return CPU and wall time per inference in µs, median of the rounds, by size and client."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    async with AsyncExitStack() as stack:
        adapter = await stack.enter_async_context(TritonAdapter(TritonSettings(url=f"http+v2://{url}")))
        client = await stack.enter_async_context(InferenceServerClient(url))
        clients = {OURS: ours(adapter), THEIRS: theirs(client, None), THEIRS_PLAIN: theirs(client, "identity")}
        for size, count in SIZES.items():
            values = np.arange(count, dtype=np.float32).reshape(1, count)
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
            for _ in range(rounds):
                for name, once in clients.items():
                    times[name].append(await one_window(once, values, seconds))
            found[size] = {
                name: {
                    "cpu_us": median(cpu for cpu, _ in windows),
                    "wall_us": median(wall for _, wall in windows),
                    "cpu_us_rounds": [cpu for cpu, _ in windows],
                }
                for name, windows in times.items()
            }
    return found


async def one_window(once: Once, values: np.ndarray, seconds: float) -> tuple[float, float]:
    """Return CPU and wall time of one inference in µs, of as many as fit into the window."""
    if not np.array_equal(await once(values), values):
        raise RuntimeError("what came back is not what was sent")
    gc.collect()
    number, began, cpu = 0, perf_counter(), process_time()
    while perf_counter() - began < seconds:
        await once(values)
        number += 1
    return (process_time() - cpu) / number * 1e6, (perf_counter() - began) / number * 1e6


def ours(adapter: TritonAdapter) -> Once:
    async def once(values: np.ndarray) -> np.ndarray:
        request = InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", values),))
        return (await adapter.infer(request))["FP32_OUT"].to_numpy()

    return once


def theirs(client: InferenceServerClient, encoding: str | None) -> Once:
    headers = {} if encoding is None else {"Accept-Encoding": encoding}

    async def once(values: np.ndarray) -> np.ndarray:
        given = InferInput("FP32_IN", list(values.shape), "FP32")
        given.set_data_from_numpy(values)
        wanted = [InferRequestedOutput("FP32_OUT", binary_data=True)]
        result = await client.infer("tensors", [given], outputs=wanted, headers=headers)
        return result.as_numpy("FP32_OUT")

    return once


# -- a reader that stalls ---------------------------------------------------------------------------------------------


class Flood:
    """A v2 server in a thread whose one model streams without end, as fast as its client reads."""

    def __init__(self) -> None:
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        while data := connection.recv(65536):
            received += data
            if b"\r\n\r\n" not in received:
                continue
            path = received.split(b" ", 2)[1]
            received = b""
            if path.endswith(b"/generate_stream"):
                self._stream(connection)
                return
            body = json.dumps(_CONFIG if path.endswith(b"/config") else {"name": "flood", "versions": ["1"]}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _stream(self, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNK
        )
        try:
            while True:
                connection.sendall(_CHUNK * 64)
                self.sent += len(_CHUNK) * 64
        except OSError:
            return


async def stall(seconds: float) -> dict[str, float]:
    """Return by how much memory grew, and how much the server could send, while nobody read."""
    flood = Flood()
    settings = TritonSettings(url=f"http+v2://{flood.url}", timeout_s=seconds + 60)
    async with TritonAdapter(settings) as adapter, adapter.submit(TaskRequest(model="flood", prompt="x")) as stream:
        async for event in stream:
            if type(event) is Token:
                break
        before = rss_kib()
        await asyncio.sleep(seconds)
        return {"seconds": seconds, "grown_kib": rss_kib() - before, "sent_kib": flood.sent / 1024}


def rss_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each window")
    parser.add_argument("--stall", type=float, default=3.0, help="seconds in which nobody reads")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    where = pin_client()
    with triton() as server:
        costs = asyncio.run(measure(server.http_url.removeprefix("http://"), options.rounds, options.seconds))
    stalled = asyncio.run(stall(options.stall))
    if options.json:
        print(json.dumps({"where": where, "infer": costs, "stalled": stalled}))
        return 0
    print(where)
    for size, row in costs.items():
        for name, figures in row.items():
            ratio = figures["cpu_us"] / row[OURS]["cpu_us"]
            print(f"{size:12}{name:24}{figures['cpu_us']:12.0f} µs CPU{figures['wall_us']:12.0f} µs{ratio:8.2f}×")
    print(f"stalled for {stalled['seconds']:g} s: memory +{stalled['grown_kib']:.0f} KiB", end="")
    print(f", the server could send {stalled['sent_kib']:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
