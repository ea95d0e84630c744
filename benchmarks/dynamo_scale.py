"""What one worker and two serve, and what discovery costs: what `scripts/simulate_cluster.py` is checked with.

Clients ask for 1 kB of tensors, each again as soon as it was answered. Two kinds of engine: one that takes 20 ms per
inference, one after the other, where machines have time left; and one that takes none, where the cores are the limit.
CPU is counted per part, and so is how many cores all of it got, because other work on the machine takes its share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import Any

from dynamo_cost import _tensors
from dynamo_parts import ROOT, cluster, cpu_s, enter_network, wait_for

_ELEMENTS = 256
_ETCD = "http://127.0.0.1:2379/metrics"
ENGINE_MS = 20.0


def client(starts: float, seconds: float) -> None:
    """Ask for some time, from a moment of the monotonic clock on; print how often, and how long one took."""
    _tensors("ours", _ELEMENTS, 1)
    took: list[float] = []
    time.sleep(max(0.0, starts - time.monotonic()))
    before, ends = time.process_time(), starts + seconds
    while time.monotonic() < ends:
        took += _tensors("ours", _ELEMENTS, 10)
    spent = time.monotonic() - starts
    print(json.dumps({"count": len(took), "cpu_s": time.process_time() - before, "s": spent, "ms": sorted(took)}))


def point(workers: int, clients: int, engine_ms: float, seconds: float) -> dict[str, Any]:
    """Return what so many workers serve to so many clients, and what each part costs."""
    names = ["ours", *(f"ours#{number}" for number in range(2, workers + 1))]
    os.environ["BENCH_ENGINE_MS"] = str(engine_ms)
    with cluster("frontends", *names) as processes:
        wait_for(lambda: _tensors("ours", _ELEMENTS, 2))
        wait_for(lambda: _all_serve([processes[name].pid for name in names]))
        starts = time.monotonic() + 3.0
        env = {**os.environ, "PYTHONPATH": os.environ["BENCH_PATH"]}
        command = [sys.executable, __file__, "--client", str(starts), "--seconds", str(seconds)]
        asking = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
        time.sleep(max(0.0, starts - time.monotonic()))
        before = {name: cpu_s(process.pid) for name, process in processes.items()}
        answers = [json.loads(process.communicate(timeout=seconds + 60)[0]) for process in asking]
        spent = {name: cpu_s(process.pid) - before[name] for name, process in processes.items()}
    count = sum(answer["count"] for answer in answers)
    wall = max(answer["s"] for answer in answers)
    took = sorted(ms for answer in answers for ms in answer["ms"])
    all_clients = sum(answer["cpu_s"] for answer in answers)
    return {
        "workers": workers, "clients": clients, "engine_us": engine_ms * 1e3,
        "per_s": sum(answer["count"] / answer["s"] for answer in answers), "p50_ms": took[len(took) // 2],
        "frontend_us": spent["frontends"] / count * 1e6, "client_us": all_clients / count * 1e6,
        "worker_us": sum(spent[name] for name in names) / count * 1e6,
        "cores": (sum(spent.values()) + all_clients) / wall,
    }  # fmt: skip


def _all_serve(pids: list[int]) -> None:
    """Raise unless each of the workers has work to do when something is asked."""
    before = [cpu_s(pid) for pid in pids]
    _tensors("ours", _ELEMENTS, 40)
    if min(cpu_s(pid) - at for pid, at in zip(pids, before, strict=True)) < 0.005:
        raise RuntimeError("a worker is not asked yet")


def discovery(workers: int, seconds: float) -> dict[str, float]:
    """Return what idle workers and a process with both frontends ask of etcd per second, and its keys."""
    names = ["ours", *(f"ours#{number}" for number in range(2, workers + 1))]
    with cluster("frontends", *names) as processes:
        wait_for(lambda: _tensors("ours", _ELEMENTS, 2))
        wait_for(lambda: _all_serve([processes[name].pid for name in names]))
        before, cpu = _etcd(), cpu_s(processes["etcd"].pid)
        time.sleep(seconds)
        after, cpu = _etcd(), cpu_s(processes["etcd"].pid) - cpu
    found = {name: (after[name] - before[name]) / seconds for name in ("calls", "keepalives", "watches")}
    return {"workers": workers, "keys": after["keys"], **found, "etcd_ms_per_s": cpu / seconds * 1e3}


def _etcd() -> dict[str, float]:
    found = dict.fromkeys(("calls", "keepalives", "watches", "keys"), 0.0)
    with urllib.request.urlopen(_ETCD, timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            value = line.rpartition(" ")[2]
            if line.startswith("etcd_debugging_mvcc_keys_total"):
                found["keys"] = float(value)
            elif line.startswith("grpc_server_msg_received_total"):
                kind = (
                    "keepalives" if '"LeaseKeepAlive"' in line else "watches" if '"Watch"' in line else "calls"
                )  # fmt: skip
                found[kind] += float(value)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each point")
    parser.add_argument("--discovery", action="store_true", help="measure what discovery costs instead")
    parser.add_argument("--engine-only", action="store_true", help="only the points where the engine is the limit")
    parser.add_argument("--json", action="store_true", help="what it prints is JSON anyway")
    parser.add_argument("--client", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client is not None:
        client(given.client, given.seconds)
        return 0
    if (code := enter_network()) is not None:
        return code
    sys.path.insert(0, str(ROOT))
    os.environ["BENCH_ALL_CORES"] = "1"
    if given.discovery:
        print(json.dumps([discovery(workers, given.seconds) for workers in (1, 2)], indent=1))
        return 0
    plan = ((1, 1, 0.0), (1, 4, 0.0), (2, 4, 0.0), (1, 4, ENGINE_MS), (2, 4, ENGINE_MS))
    if given.engine_only:
        plan = tuple(each for each in plan if each[2])
    points = [point(workers, clients, engine_ms, given.seconds) for workers, clients, engine_ms in plan]
    print(json.dumps({"load": os.getloadavg()[0], "points": points}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
