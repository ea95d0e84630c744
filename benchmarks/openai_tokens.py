"""What a token of an OpenAI-compatible engine costs: `OpenAIAdapter.submit` against openai's SDK and LiteLLM.

The clients are processes of their own that take turns within each round; the server is another one, which shoots
ready-made chunks. CPU is each client's whole process, of all threads. `raw` is the floor: a reader that checks nothing.
Every text is checked. A ratio is the other's cost over ours: more than 1 means that `submit` is cheaper. Then: memory
per idle stream.

LiteLLM is measured where `--litellm-python` names the interpreter of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROWS = {
    "64×200, 1 token per write": (64, 200, 1, 0),
    "64×200, 64 tokens per write": (64, 200, 64, 0),
    "1×5000, 1 token per write": (1, 5000, 1, 0),
    "64×50, 1 token per 5 ms": (64, 50, 1, 5),
}
"""Streams, tokens, tokens per write, milliseconds between writes."""


class Process:
    """A client or the server, spoken to in lines."""

    def __init__(self, stack: ExitStack, *command: str) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
        )
        stack.callback(self._close)

    def read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended with {self._process.wait()}")
        return line.strip()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self.read())
        return found

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def measure(clients: dict[str, Process], rounds: int, scale: float) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for row, (streams, tokens, burst, pause) in ROWS.items():
        streams = max(int(streams * scale), 1)
        tokens = max(int(tokens * scale), 2)
        samples: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}
        for number in range(-1, rounds):
            for name, client in clients.items():
                found = client.ask(prompt=f"cannon {tokens} {burst} {pause}", tokens=tokens, streams=streams)
                if number >= 0:  # the first round warms up
                    samples[name].append(found)
        own = [sample["cpu_us"] for sample in samples["submit"]]
        results[row] = {
            name: {
                "cpu_us": median(sample["cpu_us"] for sample in taken),
                "cpu_us_rounds": [sample["cpu_us"] for sample in taken],
                "submit_is_cheaper": median(s["cpu_us"] / o for s, o in zip(taken, own, strict=True)),
                "least": min(s["cpu_us"] / o for s, o in zip(taken, own, strict=True)),
                "tokens_per_s": median(sample["tokens_per_s"] for sample in taken),
            }
            for name, taken in samples.items()
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the streams and tokens, for a quick look")
    parser.add_argument("--idle", type=int, default=1000, help="idle streams to hold, for their memory")
    parser.add_argument("--litellm-python", default="", help="the interpreter of an environment with LiteLLM")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = Process(stack, sys.executable, str(HERE / "openai_cannon.py")).read()
        names = {"submit": sys.executable, "openai SDK": sys.executable, "raw": sys.executable}
        if options.litellm_python:
            names["LiteLLM"] = options.litellm_python
        clients = {
            name: Process(stack, python, str(HERE / "openai_clients.py"), name, url) for name, python in names.items()
        }
        results = {"tokens": measure(clients, options.rounds, options.scale)}
        # LiteLLM's own pool of connections has a bound: so many streams would wait for each other for ever.
        idle = {name: client for name, client in clients.items() if name != "LiteLLM"}
        results["idle"] = {name: client.ask(idle=options.idle) for name, client in idle.items()}
    if options.json:
        print(json.dumps(results))
        return
    for row, by_client in results["tokens"].items():
        print(row)
        for name, figures in by_client.items():
            print(
                f"  {name:12} {figures['cpu_us']:8.1f} µs CPU per token, {figures['submit_is_cheaper']:6.2f} × submit "
                f"(least {figures['least']:.2f}), {figures['tokens_per_s']:10.0f} tokens/s"
            )
    print(f"{options.idle} idle streams")
    for name, figures in results["idle"].items():
        print(f"  {name:12} {figures['kib_per_stream']:8.1f} KiB per stream")


if __name__ == "__main__":
    main()
