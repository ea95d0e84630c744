"""What our Dynamo worker costs, against a minimal echo worker of Dynamo's own kind: one frontend before both.

Our worker has the mock adapter behind it, which returns its inputs in the same process: what is measured is the worker,
not an engine. Needs root (a network of its own, for the frontend listens on all addresses) and the environment that
`scripts/foreign_servers.py dynamo` makes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KSERVE, OPENAI = 18201, 18202
WORKERS = ("echo", "ours")
TOKENS = 200
_READY_S = 60.0


async def echo() -> None:
    """A minimal worker: the tensors come back, and a text is so many words."""
    from dynamo.llm import ModelInput, ModelType, WorkerType, register_model
    from dynamo.runtime import DistributedRuntime

    from dynamo_worker.handlers import HEALTH_PAYLOAD

    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    tensors, text = runtime.endpoint("bench.echo.tensors"), runtime.endpoint("bench.echo.text")

    async def answer(request: Any, context: Any) -> Any:
        yield {"id": request["id"], "model": "echo", "tensors": request["tensors"]}

    async def words(request: Any, context: Any) -> Any:
        for index in range(TOKENS):
            reason = "stop" if index == TOKENS - 1 else None
            choice = {"index": 0, "text": "word ", "finish_reason": reason, "logprobs": None}
            yield {"id": "1", "object": "text_completion", "created": 1, "model": "echo", "choices": [choice]}

    kind = WorkerType.Aggregated
    config = {"name": "echo", "inputs": [], "outputs": []}
    serving = [
        asyncio.ensure_future(endpoint.serve_endpoint(handler, health_check_payload=dict(HEALTH_PAYLOAD)))
        for endpoint, handler in ((tensors, answer), (text, words))
    ]
    await register_model(ModelInput.Tensor, ModelType.TensorBased, tensors, "echo", "echo", worker_type=kind,
                         tensor_model_config=config)  # fmt: skip
    await register_model(ModelInput.Text, ModelType.Completions, text, "echo", "echo", worker_type=kind,
                         skip_model_assets=True)  # fmt: skip
    await asyncio.gather(*serving)


async def ours() -> None:
    from adapter_api.testing import MockAdapter, MockSettings
    from dynamo_worker import DynamoWorker, WorkerSettings
    from dynamo_worker.cluster import Cluster

    settings = WorkerSettings(discovery="file", namespace="bench", component="ours")
    mock = MockSettings(models=("ours",), reply="word " * TOKENS, default_max_tokens=TOKENS)
    async with MockAdapter(mock) as adapter:
        await DynamoWorker(adapter, Cluster(settings), settings).run(asyncio.get_running_loop().create_future())


async def frontends() -> None:
    from dynamo_worker import WorkerSettings
    from dynamo_worker.cluster import Cluster

    cluster = Cluster(WorkerSettings(discovery="file", namespace="bench"))
    await asyncio.gather(
        cluster.run_frontend("grpc", host="127.0.0.1", port=KSERVE, metrics_port=KSERVE + 8),
        cluster.run_frontend("http", host="127.0.0.1", port=OPENAI),
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tensors(model: str, elements: int, times: int) -> list[float]:
    import numpy as np
    import tritonclient.grpc as grpcclient

    told = grpcclient.InferenceServerClient(f"127.0.0.1:{KSERVE}")
    given = grpcclient.InferInput("x", [elements], "FP32")
    given.set_data_from_numpy(np.ones(elements, "f4"))
    found = []
    for _ in range(times):
        began = time.perf_counter()
        told.infer(model, [given])
        found.append((time.perf_counter() - began) * 1e3)
    return found


def _texts(model: str, times: int) -> list[float]:
    found = []
    connection = http.client.HTTPConnection("127.0.0.1", OPENAI, timeout=30)
    for _ in range(times):
        began = time.perf_counter()
        body = json.dumps({"model": model, "prompt": "x", "max_tokens": TOKENS, "stream": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        found.append((time.perf_counter() - began) * 1e6 / TOKENS)
    return found


def measure(processes: dict[str, subprocess.Popen[bytes]], rounds: int) -> list[dict[str, Any]]:
    """Return a row per kind of work: the medians of interleaved rounds, and the CPU of each worker process."""
    kinds = (
        ("1 kB of tensors", "ms", lambda model: _tensors(model, 256, 100), 100),
        ("4.0 MB of tensors", "ms", lambda model: _tensors(model, 1_000_000, 5), 5),
        ("a token of a stream", "µs", lambda model: _texts(model, 10), 10 * TOKENS),
    )
    rows = []
    for name, unit, work, count in kinds:
        took: dict[str, list[float]] = {worker: [] for worker in WORKERS}
        cpu = dict.fromkeys(WORKERS, 0.0)
        for worker in WORKERS:
            work(worker)
        for number in range(rounds):
            for worker in WORKERS if number % 2 else reversed(WORKERS):
                before = _cpu_s(processes[worker].pid)
                took[worker] += work(worker)
                cpu[worker] += _cpu_s(processes[worker].pid) - before
        p50 = {worker: median(took[worker]) for worker in WORKERS}
        each = {worker: cpu[worker] / (rounds * count) * 1e6 for worker in WORKERS}
        rows.append({
            "what": name, "unit": unit, "p50": p50, "cpu_us": each, "p50_ratio": p50["ours"] / p50["echo"],
            "cpu_ratio": each["ours"] / each["echo"] if each["echo"] else None,
        })  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside in ("echo", "ours", "frontends"):
        asyncio.run({"echo": echo, "ours": ours, "frontends": frontends}[given.inside]())
        return 0
    if given.inside is None:
        sys.path.insert(0, str(ROOT / "scripts"))
        from foreign_servers import environment_of

        packages = next((environment_of("dynamo") / "lib").glob("python*/site-packages"))
        env = {**os.environ, "BENCH_PATH": f"{packages}:{ROOT}"}
        command = [sys.executable, __file__, "--inside", "all", *sys.argv[1:]]
        shell = 'ip link set lo up && exec "$@"'
        return subprocess.call(["unshare", "--net", "sh", "-c", shell, "sh", *command], env=env)
    with tempfile.TemporaryDirectory() as store:
        env = {
            **os.environ, "PYTHONPATH": os.environ["BENCH_PATH"], "DYN_FILE_KV": store, "DYN_LOG": "off",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
        }  # fmt: skip
        processes = {
            name: subprocess.Popen([sys.executable, __file__, "--inside", name], env=env, stderr=subprocess.DEVNULL)
            for name in ("frontends", *WORKERS)
        }
        try:
            ends = time.monotonic() + _READY_S
            while True:
                try:
                    for worker in WORKERS:
                        _tensors(worker, 2, 1)
                        _texts(worker, 1)
                    break
                except Exception:
                    if time.monotonic() > ends:
                        raise
                    time.sleep(0.2)
            rows = measure(processes, given.rounds)
        finally:
            for process in processes.values():
                process.kill()
                process.wait(10)
    if given.json:
        print(json.dumps(rows))
        return 0
    print(
        f"{'':22} {'echo p50':>10} {'ours p50':>10} {'ratio':>6}  {'echo CPU µs':>11} {'ours CPU µs':>11} {'ratio':>6}"
    )
    for row in rows:
        p50, cpu = row["p50"], row["cpu_us"]
        ratio = "" if row["cpu_ratio"] is None else f"{row['cpu_ratio']:.2f}"
        print(
            f"{row['what']:22} {p50['echo']:8.2f}{row['unit']} {p50['ours']:8.2f}{row['unit']} {row['p50_ratio']:6.2f}"
            f"  {cpu['echo']:11.0f} {cpu['ours']:11.0f} {ratio:>6}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
