"""What our Dynamo worker costs per inference and per token, beside minimal workers of Dynamo's own kind.

Two comparisons, under one frontend, interleaved:

* `echo` and `ours`: neither has an engine outside its process, so the difference is what our worker itself adds:
  checking the request, the contract's tensors and tasks, cancels, deadlines, errors. This is the comparison of the
  target, at most 1.3 times.
* `relay` and `triton` (`--engine`): both ask the same Triton, the one by `tritonclient.grpc.aio` and without cancels,
  the other by our adapter. This is what somebody saves or pays who replaces a worker written by hand.

CPU is that of the worker's process, all threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from dynamo_parts import KSERVE, ROOT, Reader, cluster, cpu_s, enter_network, wait_for

TOKENS = 200
Work = Callable[[str], list[float]]


def _tensors(model: str, elements: int, times: int, name: str = "FP32_IN") -> list[float]:
    """Return how long each of some inferences took (ms), and see that the first was answered right."""
    import numpy as np
    import tritonclient.grpc as grpcclient

    told = grpcclient.InferenceServerClient(f"127.0.0.1:{KSERVE}")
    array = np.arange(elements, dtype="f4").reshape(1, -1) / 7
    given = grpcclient.InferInput(name, list(array.shape), "FP32")
    given.set_data_from_numpy(array)
    found = []
    for number in range(times):
        began = time.perf_counter()
        answer = told.infer(model, [given])
        found.append((time.perf_counter() - began) * 1e3)
        if not number:
            output = answer.get_response().outputs[0].name
            assert np.array_equal(answer.as_numpy(output), array)
    return found


def _texts(model: str, tokens: int, times: int, *, chat: bool = False) -> list[float]:
    """Return how long each of some streams took per token (µs)."""
    found = []
    reader = Reader()
    for _ in range(times):
        began = time.perf_counter()
        reader.complete(model, tokens, chat=chat)
        found.append((time.perf_counter() - began) * 1e6 / tokens)
    reader.close()
    return found


KINDS: tuple[tuple[str, str, Work, int], ...] = (
    ("1 kB of tensors", "ms", lambda model: _tensors(model, 256, 20), 20),
    ("4.0 MB of tensors", "ms", lambda model: _tensors(model, 1_000_000, 2), 2),
    ("a token of a completion", "µs", lambda model: _texts(model, TOKENS, 2), 2 * TOKENS),
    ("a token of a chat", "µs", lambda model: _texts(model, TOKENS, 2, chat=True), 2 * TOKENS),
    ("a completion of 1 token", "µs", lambda model: _texts(model, 1, 20), 20),
)
"""Name, unit of the latency, what is done in one block, and how much that is. Blocks are short, so that what else the
machine does hits both workers of a pair alike."""


def measure(
    pairs: dict[str, dict[str, str]], processes: dict[str, subprocess.Popen[bytes]], rounds: int, only: str
) -> list[dict[str, Any]]:
    """Return a row per kind of work and pair, from interleaved rounds.

    `p50`: the median of all latencies; `cpu_us`: the median CPU of a worker or the frontends; `cpu_ratio`: that of the
    ratios of two neighbouring blocks; `cpu_ratio_of_sums`: the ratio of all CPU.

    Args:
        pairs: The worker that is the measure -> part name of each worker of the pair -> model for tensors and text.
        processes: The parts that run.
        rounds: How often each is measured.
        only: A text that the names of the kinds to be measured have in them.
    """
    rows = []
    for baseline, models in pairs.items():
        workers = tuple(models)
        for name, unit, work, count in KINDS:
            if only not in name or ("chat" in name and baseline == "relay"):
                continue  # the demo model of Triton answers a chat with its whole template
            model = {worker: _model(models[worker], name) for worker in workers}
            took: dict[str, list[float]] = {worker: [] for worker in workers}
            cpu: dict[str, list[float]] = {worker: [] for worker in (*workers, "frontends")}
            for worker in workers:
                work(model[worker])
            for number in range(rounds):
                for worker in workers if number % 2 else reversed(workers):
                    parts = worker, "frontends"
                    before = {part: cpu_s(processes[part].pid) for part in parts}
                    took[worker] += work(model[worker])
                    for part in parts:
                        cpu[part].append((cpu_s(processes[part].pid) - before[part]) / count * 1e6)
            (other,) = set(workers) - {baseline}
            p50 = {worker: median(took[worker]) for worker in workers}
            each = {part: median(found) for part, found in cpu.items()}
            pairs_of = [ours / theirs for ours, theirs in zip(cpu[other], cpu[baseline], strict=True)]
            rows.append({
                "what": name, "unit": unit, "baseline": baseline, "worker": other, "p50": p50, "cpu_us": each,
                "p50_ratio": p50[other] / p50[baseline], "cpu_ratio": median(pairs_of),
                "cpu_ratio_of_sums": sum(cpu[other]) / sum(cpu[baseline]),
            })  # fmt: skip
    return rows


def _model(models: str, kind: str) -> str:
    tensors, _, text = models.partition("|")
    return tensors if "tensors" in kind or not text else text


def fast_repository(folder: Path, *, delay_ms: int = 0) -> Path:
    """Return a model repository with `tensors`, which gives its inputs back, and `slow` at a pace of its own."""
    from triton_adapter.embedded.demo import demo_repository

    demo = Path(demo_repository())
    for name in ("tensors", "slow"):
        (folder / name).mkdir()
        config = (demo / name / "config.pbtxt").read_text()
        config = config.replace('key: "DELAY_MS", value: { string_value: "50" }',
                                f'key: "DELAY_MS", value: {{ string_value: "{delay_ms}" }}')  # fmt: skip
        (folder / name / "config.pbtxt").write_text(config)
        (folder / name / "1").symlink_to(demo / name / "1")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--engine", action="store_true", help="also compare two workers before a real Triton")
    parser.add_argument("--only", default="", help="measure the kinds of work with this in their name")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (code := enter_network()) is not None:
        return code
    pairs = {"echo": {"echo": "echo", "ours": "ours"}}
    with tempfile.TemporaryDirectory() as folder:
        repository = None
        if given.engine:
            sys.path.insert(0, str(ROOT))
            pairs["relay"] = {"relay": "relay", "triton_worker": "tensors|slow"}
            repository = fast_repository(Path(folder))
        parts = [worker for pair in pairs.values() for worker in pair]
        with cluster("frontends", *parts, triton=repository) as processes:
            for pair in pairs.values():
                for models in pair.values():
                    wait_for(lambda models=models: _tensors(_model(models, "tensors"), 2, 1))
                    wait_for(lambda models=models: _texts(_model(models, "text"), 1, 1))
            rows = measure(pairs, processes, given.rounds, given.only)
    if given.json:
        print(json.dumps(rows))
        return 0
    print(f"{'':28}{'ratio of p50':>12} {'ratio of CPU':>12} {'of all CPU':>10}")
    for row in rows:
        base, other = row["baseline"], row["worker"]
        told = [f"{name} {row['p50'][name]:.2f} {row['unit']}, {row['cpu_us'][name]:.0f}" for name in (base, other)]
        told.append(f"frontends {row['cpu_us']['frontends']:.0f}")
        ratios = f"{row['p50_ratio']:12.2f} {row['cpu_ratio']:12.2f} {row['cpu_ratio_of_sums']:10.2f}"
        print(f"{row['what']:28}{ratios}   {'; '.join(told)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
