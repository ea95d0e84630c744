"""How soon a cancel counts: for the caller (the receipt), and in the engine, one at a time and in a burst.

Against the real Triton, started for the purpose, and its `slow` model, which looks for a cancel every 10 ms and says
when it saw one. That is asked of it over and over, so the time to the engine includes its own pace, and up to one more
round trip. Then a burst cancels so many running tasks at once; the server must answer, run nothing, and take a task
afterwards. Exits 1 when it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from statistics import quantiles
from time import perf_counter

from engine_side import probe, running, slow_task
from servers import triton

from adapter_api import CancelReceipt, End, Token, TokenStream
from triton_adapter import TritonAdapter, TritonSettings


async def started(adapter: TritonAdapter) -> TokenStream:
    """Return the stream of a long task that has brought its first token."""
    stream = adapter.submit(slow_task(tokens=100_000, delay_ms=20))
    async for event in stream:
        if type(event) is Token:
            return stream
    raise RuntimeError("the task brought no token")


async def one_at_a_time(adapter: TritonAdapter, count: int) -> dict[str, dict[str, float]]:
    """Return the spread of both times in ms."""
    receipts, engine = [], []
    for _ in range(count):
        stream = await started(adapter)
        began = perf_counter()
        receipt = await adapter.cancel(stream.job_id)
        receipts.append((perf_counter() - began) * 1e3)
        if not receipt.acknowledged:
            raise RuntimeError("a cancel was not acknowledged")
        async with asyncio.timeout(20):
            while (await probe(adapter, stream.job_id))["state"] != "cancelled":
                pass
        engine.append((perf_counter() - began) * 1e3)
    return {"receipt": spread(receipts), "engine": spread(engine)}


def spread(values: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and extremes."""
    cuts = quantiles(values, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18], "min": min(values), "max": max(values)}


async def burst(adapter: TritonAdapter, count: int) -> dict[str, float | int | bool]:
    """Cancel so many running tasks at once; return what came of it."""
    streams = await asyncio.gather(*(started(adapter) for _ in range(count)))
    before = await probe(adapter)
    began = perf_counter()
    receipts: list[CancelReceipt] = await asyncio.gather(*(adapter.cancel(stream.job_id) for stream in streams))
    receipts_ms = (perf_counter() - began) * 1e3
    left = await running(adapter)
    engine_ms = (perf_counter() - began) * 1e3
    after = await probe(adapter)
    ends = [event async for event in adapter.submit(slow_task(tokens=2, delay_ms=0)) if type(event) is End]
    return {
        "cancels": count,
        "acknowledged": sum(receipt.acknowledged for receipt in receipts),
        "cancelled_in_engine": after["cancelled"] - before["cancelled"],
        "left_running": left,
        "live": (await adapter.health()).live,
        "takes_a_task": bool(ends),
        "all_receipts_ms": receipts_ms,
        "all_gone_ms": engine_ms,
    }


async def run(
    url: str, count: int, storm: int, seconds: float
) -> tuple[dict[str, dict[str, float]], dict[str, float | int | bool]]:
    settings = TritonSettings(url=url, timeout_s=300, first_token_timeout_s=120)
    async with asyncio.timeout(seconds), TritonAdapter(settings) as adapter:
        return await one_at_a_time(adapter, count), await burst(adapter, storm)


def survived(found: dict[str, float | int | bool]) -> bool:
    """Return whether every task of a burst was cancelled and the server is as good as new."""
    everything = found["cancels"]
    return bool(
        found["acknowledged"] == found["cancelled_in_engine"] == everything
        and not found["left_running"]
        and found["live"]
        and found["takes_a_task"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="cancels one at a time; 2 or more")
    parser.add_argument("--burst", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=300, help="give up after that")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with triton() as server:
        times, storm = asyncio.run(run(server.grpc_url, options.count, options.burst, options.seconds))
        alive = server.is_running
    if options.json:
        print(json.dumps({"one_at_a_time_ms": times, "burst": storm, "server_alive": alive}))
    else:
        print(f"{'ms from the cancel to':24}" + "".join(f"{name:>10}" for name in ("p50", "p95", "min", "max")))
        for name, found in times.items():
            print(f"{name:24}" + "".join(f"{figure:10.2f}" for figure in found.values()))
        print(f"\nburst: {', '.join(f'{name} {figure:g}' for name, figure in storm.items())}; server alive {alive}")
    return 0 if alive and survived(storm) else 1


if __name__ == "__main__":
    sys.exit(main())
