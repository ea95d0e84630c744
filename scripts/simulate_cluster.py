"""How a cluster of Dynamo workers grows: a model with its assumptions in the open, and a simulation of it.

    python scripts/simulate_cluster.py --workers 4 --frontends 1 --rate 2000

Two resources serve each request in turn, each first come, first served: one of the frontends, and one of the workers,
chosen by turns as Dynamo does. An engine is no part of it: its time is added as it is. Assumptions, all of them:

1. Requests arrive at random (Poisson), and each takes the same CPU: `--frontend-us` of a frontend's cores and
   `--worker-us` of one core of a worker. A worker is one process of Python and uses one core; a frontend has
   `--frontend-cores`.
2. What nobody computes, `--wait-us`, is there at any load: connections, wake-ups, discovery that is read ahead.
3. No machine has other work, and the network is never full. Discovery costs nothing per request.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from statistics import median


def capacity(*, workers: int, frontends: int, frontend_us: float, worker_us: float, frontend_cores: int = 1) -> float:
    """Return how many requests per second are the most, by the resource that is full first."""
    return 1e6 * min(workers / worker_us, frontends * frontend_cores / frontend_us)


def simulate(
    *,
    workers: int,
    frontends: int,
    rate: float,
    frontend_us: float,
    worker_us: float,
    wait_us: float = 0.0,
    frontend_cores: int = 1,
    requests: int = 20_000,
    seed: int = 1,
) -> dict[str, float]:
    """Return the median and the 99th percentile of the time in the cluster (ms), and the throughput (requests/s)."""
    chance = random.Random(seed)
    faces = [[0.0] * frontend_cores for _ in range(frontends)]
    free = [0.0] * workers
    passed: list[tuple[float, float]] = []
    now, last = 0.0, 0.0
    for number in range(requests):
        now += chance.expovariate(rate / 1e6)
        cores = faces[number % frontends]
        begins = max(now, heapq.heappop(cores))
        heapq.heappush(cores, begins + frontend_us)
        passed.append((begins + frontend_us, now))
    took = []
    for number, (arrives, began) in enumerate(sorted(passed)):
        worker = number % workers
        free[worker] = max(arrives, free[worker]) + worker_us
        last = max(last, free[worker])
        took.append((free[worker] - began + wait_us) / 1e3)
    took.sort()
    return {"p50_ms": median(took), "p99_ms": took[int(len(took) * 0.99)], "per_s": requests / last * 1e6}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--frontends", type=int, default=1)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--frontend-us", type=float, required=True, help="CPU of a frontend per request")
    parser.add_argument("--worker-us", type=float, required=True, help="CPU of a worker per request")
    parser.add_argument("--wait-us", type=float, default=0.0)
    parser.add_argument("--frontend-cores", type=int, default=1)
    given = vars(parser.parse_args())
    most = capacity(**{name: given[name] for name in given.keys() - {"rate", "wait_us"}})
    print(json.dumps({**simulate(**given), "most_per_s": most}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
