"""A worker, both frontends and their clients in one process (discovery `mem`), before a scripted engine.

`one_process.py KSERVE OPENAI` answers the questions of `ask.py` that come as lines of JSON, `[what, {"more": …}]`, each
by a line; `["engine", {}]` tells what the engine was asked last, and how many of its requests were cancelled.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from dynamo_worker import DynamoWorker, WorkerSettings
from dynamo_worker.cluster import Cluster
from tests.dynamo_worker.chain import ask
from tests.dynamo_worker.chain.scripted import Scripted

ANSWER = "answer: "


async def main(kserve: int, openai: int) -> None:
    settings = WorkerSettings(discovery="mem", interval_s=0.2)
    async with Scripted() as engine:
        cluster = Cluster(settings)
        frontends = [
            asyncio.ensure_future(cluster.run_frontend("grpc", host="127.0.0.1", port=kserve, metrics_port=kserve + 9)),
            asyncio.ensure_future(cluster.run_frontend("http", host="127.0.0.1", port=openai)),
        ]
        worker = DynamoWorker(engine, cluster, settings)
        asked = asyncio.ensure_future(_answer(engine))
        try:
            await worker.run(asyncio.wait({*frontends, asked}, return_when=asyncio.FIRST_COMPLETED))
        finally:
            for frontend in frontends:
                frontend.cancel()
            await cluster.aclose()


async def _answer(engine: Scripted) -> None:
    """Answer until standard input ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, more = json.loads(line)
        try:
            if what == "engine":
                told: Any = {"last": engine.last() if engine.asked else None, "cancelled": engine.cancelled}
            else:
                told = await asyncio.to_thread(getattr(ask, what), **more)
        except Exception as exc:
            told = {"raised": f"{type(exc).__name__}: {exc}"}
        sys.stdout.write(f"{ANSWER}{json.dumps(told)}\n")  # Dynamo writes there, too
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
