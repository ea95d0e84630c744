"""How a cluster of Dynamo workers grows: a model with its assumptions in the open, and a simulation of it.

    python scripts/simulate_cluster.py --workers 4 --rate 2000 --frontend-us 500 --worker-us 700
    python scripts/simulate_cluster.py --check

A request goes through a frontend, a worker and that worker's engine, each first come, first served. Assumptions:

1. A worker is one process of Python and does one thing at a time; a frontend uses `--frontend-cores`. Each request
   takes the same CPU: `--frontend-us` and `--worker-us`, and `--client-us` where its client shares the machine.
2. An engine takes `--engine-us` for each of the `--engine-slots` requests that it works on at once, and none of the CPU
   counted here. Each worker has an engine of its own.
3. Frontends go to workers by turns, as Dynamo does, whatever waits there.
4. `--cores` is what all of it shares, a fraction if other work takes the rest; without it there are always enough.
   CPU per request does not depend on how busy a machine is. (It does: see docs/scaling.md.)
5. Requests arrive at random (`--rate`, Poisson), or from `--clients` that each ask again when they were answered.
6. `--wait-us`, which nobody computes, is there at any load. The network is never full. Discovery costs no request.
7. `--tokens` per answer cost `--frontend-token-us` and `--worker-token-us` each. The tokens of an answer are one piece
   of work here, while real ones take turns: what a time tells is when whole answers are there.

`--check` simulates what was measured, and ends with 1 where they differ by more than `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from collections import deque
from collections.abc import Callable
from itertools import count, cycle
from math import ceil, inf
from pathlib import Path
from statistics import median
from typing import Any

MEASURED = Path(__file__).with_name("cluster_points.json")
"""What `benchmarks/dynamo_scale.py` printed."""
TOLERANCE = 0.3


def capacity(
    *,
    workers: int,
    frontends: int,
    frontend_us: float,
    worker_us: float,
    frontend_cores: int = 1,
    engine_us: float = 0.0,
    engine_slots: int = 1,
    client_us: float = 0.0,
    cores: float | None = None,
) -> dict[str, float]:
    """Return how many requests per second each resource can do at most; the least of them is the cluster's limit."""
    return {
        "frontends": _rate(frontends * frontend_cores, frontend_us),
        "workers": _rate(workers, worker_us),
        "engines": _rate(workers * engine_slots, engine_us),
        "cores": inf if cores is None else _rate(cores, frontend_us + worker_us + client_us),
    }


def _rate(servers: float, us: float) -> float:
    return inf if us == 0 else servers / us * 1e6


class _Station:
    """Servers with one line before them."""

    def __init__(self, servers: float) -> None:
        self._free, self._line = servers, deque[Callable[[], None]]()

    def take(self, then: Callable[[], None]) -> None:
        if self._free > 0:
            self._free -= 1
            then()
        else:
            self._line.append(then)

    def leave(self) -> None:
        if self._line:
            self._line.popleft()()
        else:
            self._free += 1


class _Clock:
    """Calls what is due, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def after(self, us: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + us, next(self._number), then))

    def run(self) -> None:
        while self._due:
            self.now, _, then = heapq.heappop(self._due)
            then()


def simulate(
    *,
    workers: int,
    frontends: int,
    frontend_us: float,
    worker_us: float,
    rate: float | None = None,
    clients: int = 0,
    client_us: float = 0.0,
    engine_us: float = 0.0,
    engine_slots: int = 1,
    cores: float | None = None,
    wait_us: float = 0.0,
    frontend_cores: int = 1,
    requests: int = 20_000,
    seed: int = 1,
) -> dict[str, float]:
    """Return the median and the 99th percentile of the time in the cluster (ms), and the throughput (requests/s).

    Requests come at `rate` per second, or from `clients` that ask again as soon as they were answered.
    """
    clock, chance = _Clock(), random.Random(seed)
    # A fraction of cores: so many whole ones, all of them slower.
    machine = _Station(inf if cores is None else ceil(cores))
    slower = 1.0 if cores is None else ceil(cores) / cores
    faces = cycle([_Station(frontend_cores) for _ in range(frontends)])
    served = cycle([(_Station(1), _Station(engine_slots)) for _ in range(workers)])
    took: list[float] = []
    left = requests

    def compute(station: _Station, us: float, then: Callable[[], None]) -> None:
        def over() -> None:
            machine.leave()
            station.leave()
            then()

        station.take(lambda: machine.take(lambda: clock.after(us * slower, over)))

    def request(asker: _Station) -> None:
        nonlocal left
        if not left:
            return
        left -= 1
        began = clock.now

        def answered() -> None:
            took.append(clock.now - began)
            if clients:
                request(asker)

        def at_engine(engine: _Station) -> None:
            def over() -> None:
                engine.leave()
                clock.after(wait_us, answered)

            engine.take(lambda: clock.after(engine_us, over))

        def at_worker() -> None:
            worker, engine = next(served)
            compute(worker, worker_us, lambda: at_engine(engine))

        compute(asker, client_us, lambda: compute(next(faces), frontend_us, at_worker))

    if clients:
        for _ in range(clients):
            request(_Station(1))
    else:
        assert rate is not None
        arrives = 0.0
        for _ in range(requests):
            arrives += chance.expovariate(rate / 1e6)
            clock.after(arrives, lambda: request(_Station(1)))
    clock.run()
    took.sort()
    return {
        "p50_ms": median(took) / 1e3, "p99_ms": took[int(len(took) * 0.99)] / 1e3, "per_s": len(took) / clock.now * 1e6,
    }  # fmt: skip


def check(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was measured beside what is simulated.

    The first point, one worker and one client, gives the CPU per request, and what nobody computes; nothing else is
    taken from the others than how many cores the machine had left for them, where those were the limit.
    """
    first, *others = points
    costs = {name: first[name] for name in ("frontend_us", "worker_us", "client_us")}
    wait_us = max(0.0, first["p50_ms"] * 1e3 - sum(costs.values()))
    left = max(point["cores"] for point in points)
    found = []
    for point in others:
        told = simulate(
            workers=point["workers"], frontends=1, clients=point["clients"], engine_us=point["engine_us"],
            cores=left if point["engine_us"] else point["cores"], frontend_cores=2, wait_us=wait_us, requests=4000,
            **costs,
        )  # fmt: skip
        found.append({
            **{name: point[name] for name in ("workers", "clients", "engine_us")},
            "measured_per_s": point["per_s"], "simulated_per_s": told["per_s"],
            "off": told["per_s"] / point["per_s"] - 1,
            "measured_p50_ms": point["p50_ms"], "simulated_p50_ms": told["p50_ms"],
        })  # fmt: skip
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="?", type=Path, const=MEASURED, metavar="FILE",
                        help="simulate what benchmarks/dynamo_scale.py measured, here or on your machine")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--frontends", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests per second")
    parser.add_argument("--clients", type=int, default=0, help="instead of --rate")
    for name in ("frontend", "worker", "client", "engine", "wait", "frontend-token", "worker-token"):
        parser.add_argument(f"--{name}-us", type=float, default=0.0, help="microseconds, see above")
    parser.add_argument("--tokens", type=int, default=0, help="per answer")
    parser.add_argument("--frontend-cores", type=int, default=1)
    parser.add_argument("--engine-slots", type=int, default=1)
    parser.add_argument("--cores", type=float)
    return parser


def main() -> int:
    parser = _parser()
    given = vars(parser.parse_args())
    if (file := given.pop("check")) is not None:
        rows = check(json.loads(file.read_text())["points"])
        print(json.dumps({"tolerance": TOLERANCE, "rows": rows}, indent=1))
        return int(any(abs(row["off"]) > TOLERANCE for row in rows))
    if not given["clients"] and not given["rate"]:
        parser.error("say what comes: --rate, or --clients")
    tokens, per_token = given.pop("tokens"), {name: given.pop(f"{name}_token_us") for name in ("frontend", "worker")}
    for name, us in per_token.items():
        given[f"{name}_us"] += tokens * us
    limits = capacity(**{name: value for name, value in given.items() if name not in ("rate", "clients", "wait_us")})
    found = simulate(**given)
    if tokens:
        found["tokens_per_s"] = found["per_s"] * tokens
    most = {name: round(limit, 1) for name, limit in limits.items() if limit != inf}
    print(json.dumps({**found, "most_per_s": most, "full_first": min(limits, key=lambda name: limits[name])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
