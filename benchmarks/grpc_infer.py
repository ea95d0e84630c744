"""What an inference over gRPC costs against `tritonclient.grpc.aio`, and what a stream that is silent keeps in memory.

Against the real Triton, started for the purpose, and its `tensors` model, which sends back what it got: CPU of this
process per inference, the clients taking turns within each round. Then a thousand streams that have had their first
token and wait for the next, each client in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import grpc.aio
import numpy as np
import tritonclient.grpc.aio as tc
from clients import Order
from servers import cannon, pin_client, triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from adapter_api import InferRequest, Tensor, Token
from triton_adapter import TritonAdapter, TritonSettings

SIZES = {"16 numbers": (16, 1), "16 numbers, 64 at once": (16, 64), "4.9 MB": (640 * 640 * 3, 1)}
OURS, GRPCIO, THEIRS = "infer", "infer, over grpcio", "tritonclient"
BARE, PYTRITON = "grpc.aio", "pytriton's client"
Once = Callable[[np.ndarray], Awaitable[np.ndarray]]
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_AT_ONCE = 50
_SILENT = Order("text", "cannon 2 1 600000", 2)


async def measure(address: str, rounds: int, seconds: float) -> dict[str, dict[str, dict[str, Any]]]:
    """Return CPU and wall time per inference in µs, median of the rounds, by size and client."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(tc.InferenceServerClient(address))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=_UNLIMITED))
        clients = {THEIRS: theirs(client), BARE: bare(service_pb2_grpc.GRPCInferenceServiceStub(channel))}
        if find_spec("pytriton") is not None:
            clients[PYTRITON] = await pytriton(stack, address)
        for name, transport in ((OURS, "auto"), (GRPCIO, "grpcio")):
            settings = TritonSettings.model_validate({"url": f"grpc://{address}", "transport": transport})
            clients[name] = ours(await stack.enter_async_context(TritonAdapter(settings)))
        for size, (count, at_once) in SIZES.items():
            values = np.arange(count, dtype=np.float32).reshape(1, count)
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
            for _ in range(rounds):
                for name, once in clients.items():
                    times[name].append(await one_window(once, values, seconds, at_once))
            found[size] = {
                name: {
                    "cpu_us": median(cpu for cpu, _ in windows),
                    "wall_us": median(wall for _, wall in windows),
                    "cpu_us_rounds": [cpu for cpu, _ in windows],
                }
                for name, windows in times.items()
            }
    return found


async def one_window(once: Once, values: np.ndarray, seconds: float, at_once: int) -> tuple[float, float]:
    """Return CPU and wall time of one inference in µs, of as many as fit into the window."""
    if not np.array_equal(await once(values), values):
        raise RuntimeError("what came back is not what was sent")
    gc.collect()
    number, began, cpu = 0, perf_counter(), process_time()
    while perf_counter() - began < seconds:
        await asyncio.gather(*(once(values) for _ in range(at_once)))
        number += at_once
    return (process_time() - cpu) / number * 1e6, (perf_counter() - began) / number * 1e6


def ours(adapter: TritonAdapter) -> Once:
    async def once(values: np.ndarray) -> np.ndarray:
        request = InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", values),))
        return (await adapter.infer(request))["FP32_OUT"].to_numpy()

    return once


def theirs(client: tc.InferenceServerClient) -> Once:
    async def once(values: np.ndarray) -> np.ndarray:
        given = tc.InferInput("FP32_IN", list(values.shape), "FP32")
        given.set_data_from_numpy(values)
        result = await client.infer("tensors", [given], outputs=[tc.InferRequestedOutput("FP32_OUT")])
        return result.as_numpy("FP32_OUT")

    return once


def bare(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> Once:
    """Bytes in, bytes out, by the stubs that grpc makes: nothing of tritonclient but its messages is in it."""

    async def once(values: np.ndarray) -> np.ndarray:
        request = service_pb2.ModelInferRequest(model_name="tensors", raw_input_contents=[values.tobytes()])
        request.inputs.add(name="FP32_IN", datatype="FP32", shape=values.shape)
        request.outputs.add(name="FP32_OUT")
        response = await stub.ModelInfer(request)
        return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape)

    return once


async def pytriton(stack: AsyncExitStack, address: str) -> Once:
    from pytriton.client import AsyncioModelClient

    client = await stack.enter_async_context(AsyncioModelClient(f"grpc://{address}", "tensors"))

    async def once(values: np.ndarray) -> np.ndarray:
        return (await client.infer_batch(FP32_IN=values))["FP32_OUT"]

    return once


# -- streams that are silent ------------------------------------------------------------------------------------------


async def idle(address: str, name: str, streams: int) -> float:
    """Return KiB per stream that has had its first token, of streams that were begun one after another."""
    async with AsyncExitStack() as stack:
        if name == THEIRS:
            client = await stack.enter_async_context(tc.InferenceServerClient(address))
            begin = _stream_of_theirs(client)
        else:
            transport = "grpcio" if name == GRPCIO else "auto"
            settings = TritonSettings.model_validate({"url": f"grpc://{address}", "transport": transport})
            begin = _stream_of_ours(await stack.enter_async_context(TritonAdapter(settings)))
        kept = [await begin() for _ in range(20)]
        gc.collect()
        before = rss_kib()
        # As they come to a server: of a thousand begun in one moment it would be the beginning that is measured.
        for begun in range(0, streams, _AT_ONCE):
            kept += await asyncio.gather(*(begin() for _ in range(min(_AT_ONCE, streams - begun))))
        gc.collect()
        grown = (rss_kib() - before) / streams
        print(json.dumps(grown), flush=True)
        os._exit(0)  # thousands of streams need no goodbye


def _stream_of_ours(adapter: TritonAdapter) -> Callable[[], Awaitable[object]]:
    async def begin() -> object:
        stream = adapter.submit(_SILENT.task())
        events = aiter(stream)
        while type(await anext(events)) is not Token:
            pass
        return events

    return begin


def _stream_of_theirs(client: tc.InferenceServerClient) -> Callable[[], Awaitable[object]]:
    async def begin() -> object:
        text = tc.InferInput("text_input", [1], "BYTES")
        text.set_data_from_numpy(np.array([_SILENT.prompt.encode()], dtype=object))

        async def requests() -> object:  # type: ignore[misc]
            yield {"model_name": _SILENT.model, "inputs": [text], "enable_empty_final_response": True}

        replies = client.stream_infer(requests())
        await anext(replies)
        return replies

    return begin


def rss_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each window")
    parser.add_argument("--streams", type=int, default=1000, help="silent ones")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--idle", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.idle:
        asyncio.run(idle(*options.idle, options.streams))
    where = pin_client()
    with triton() as server:
        costs = asyncio.run(measure(server.grpc_url.removeprefix("grpc://"), options.rounds, options.seconds))
    memory: dict[str, float] = {}
    for name in (THEIRS, OURS, GRPCIO):
        with cannon() as address:
            command = [sys.executable, __file__, "--streams", str(options.streams), "--idle", address, name]
            memory[name] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    if options.json:
        print(json.dumps({"where": where, "infer": costs, "idle_kib": memory}))
        return 0
    print(where)
    for size, row in costs.items():
        for name, figures in row.items():
            ratio = row[THEIRS]["cpu_us"] / figures["cpu_us"]
            print(f"{size:24}{name:24}{figures['cpu_us']:12.0f} µs CPU{figures['wall_us']:12.0f} µs{ratio:8.2f}×")
    for name, kib in memory.items():
        print(f"{'a silent stream':24}{name:24}{kib:12.1f} KiB{memory[THEIRS] / kib:24.2f}×")
    return 0


if __name__ == "__main__":
    sys.exit(main())
