"""What a token, a task and a first token cost the client: `TritonAdapter.submit` against `tritonclient.grpc.aio`.

CPU time is the process's, of all threads; server and client are different processes. The clients take turns within each
round, and every text is checked. Each figure is the median of the rounds with their range. A ratio is tritonclient's
cost over ours, so more than 1 means that ours is cheaper: round by round, and of the best rounds, which a machine that
does other things as well disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

import tritonclient.grpc.aio as tc
from cannon import text_of
from clients import Answer, Client, Order, clients, together
from servers import cannon, pin_client, triton

from triton_adapter import TritonAdapter, TritonSettings

BASELINE = "tritonclient.grpc.aio"


@dataclass(frozen=True)
class Row:
    """One thing to measure. `unit` is what the cost is divided by; `after` is how many tasks run one after another."""

    name: str
    unit: str
    order: Order
    streams: int = 1
    after: int = 1

    @property
    def units(self) -> int:
        tasks = self.streams * self.after
        return tasks * self.order.tokens if self.unit == "µs CPU per token" else tasks


@dataclass
class Sample:
    cpu_us: float
    tokens_per_s: float
    first_token_us: float


def cannon_rows(scale: float) -> list[Row]:
    def row(name: str, streams: int, tokens: int, burst: int, pause_ms: int = 0, model: str = "text") -> Row:
        order = Order(model, f"cannon {tokens} {burst} {pause_ms}", tokens)
        return Row(f"cannon {streams}×{tokens}, {name}", "µs CPU per token", order, streams)

    def less(count: int) -> int:
        return max(int(count * scale), 1)

    one = Order("text", "cannon 1 1 0", 1)
    return [
        row("1 token per write", 1, less(5000), 1),
        row("1 token per write", less(64), less(200), 1),
        row("64 tokens per write", less(64), less(200), 64),
        row("counts in each reply", less(64), less(200), 1, model="counted"),
        row("1 token per 5 ms", less(64), less(50), 1, pause_ms=5),
        Row(f"cannon, {less(64)} tasks at once", "µs CPU per task", one, streams=less(64), after=less(8)),
        Row("cannon, task after task", "µs CPU per task", one, after=less(200)),
    ]


def triton_rows(scale: float) -> list[Row]:
    tokens, streams, after = max(int(200 * scale), 2), max(int(16 * scale), 1), max(int(100 * scale), 1)
    many = Order("tinylm", "Tell me a story", tokens)
    return [
        Row(f"Triton {streams}×{tokens}", "µs CPU per token", many, streams),
        Row("Triton, task after task", "µs CPU per task", Order("tinylm", "Tell me a story", 1), after=after),
    ]


async def sample(client: Client, row: Row, expected: str | None) -> tuple[Sample, str]:
    """Measure one client once; return the text as well, which all clients must agree on."""
    answers: list[Answer] = []
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    for _ in range(row.after):
        answers += await together(client, row.order, row.streams)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    texts = {answer.text for answer in answers}
    if len(texts) != 1 or not answers[0].text or answers[0].text != (expected or answers[0].text):
        raise AssertionError(f"{row.name}: wrong text")
    first = median(answer.first_token_s for answer in answers)
    rate = row.order.tokens * len(answers) / wall
    return Sample(cpu / row.units * 1e6, rate, first * 1e6), answers[0].text


async def measure(row: Row, contenders: dict[str, Client], rounds: int) -> dict[str, list[Sample]]:
    expected = "".join(map(text_of, range(row.order.tokens))) if row.order.model != "tinylm" else None
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(-1, rounds):
        for name, client in contenders.items():
            taken, expected = await sample(client, row, expected)
            if number >= 0:  # the first round warms up
                samples[name].append(taken)
    return samples


def summary(row: Row, samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Return one row of the result, by client."""
    base = samples[BASELINE]
    found: dict[str, object] = {"row": row.name, "unit": row.unit}
    for name, own in samples.items():
        found[name] = {
            "cpu_us": _spread([s.cpu_us for s in own]),
            "cheaper_by": _spread([b.cpu_us / s.cpu_us for b, s in zip(base, own, strict=True)]),
            "best_cheaper_by": min(s.cpu_us for s in base) / min(s.cpu_us for s in own),
            "tokens_per_s": _spread([s.tokens_per_s for s in own]),
        }
        if row.streams == 1 and row.order.tokens == 1:
            found[name] |= {  # type: ignore[operator]
                "first_token_us": _spread([s.first_token_us for s in own]),
                "first_token_sooner_by": _spread(
                    [b.first_token_us / s.first_token_us for b, s in zip(base, own, strict=True)]
                ),
            }
    return found


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


async def run(address: str, rows: list[Row], rounds: int) -> list[dict[str, object]]:
    async with (
        TritonAdapter(TritonSettings(url=f"grpc://{address}")) as adapter,
        tc.InferenceServerClient(address) as rival,
    ):
        contenders = clients(adapter, rival)
        return [summary(row, await measure(row, contenders, rounds)) for row in rows]


def show(results: list[dict[str, object]]) -> None:
    print(f"{'':38}{'client':24}{'cost':>26}{'tritonclient / ours':>24}{'best':>7}{'tokens/s':>10}")
    for found in results:
        title = f"{found['row']}"
        for name, figures in found.items():
            if isinstance(figures, dict):
                cost, ratio = _text(figures["cpu_us"], 1), _text(figures["cheaper_by"], 2)
                best, rate = figures["best_cheaper_by"], figures["tokens_per_s"]["median"]
                print(f"{title:38}{name:24}{cost:>26}{ratio:>24}{best:7.2f}{rate:10.0f}")
                title = f"  {found['unit']}" if title.strip() == found["row"] else ""
        for name, figures in found.items():
            if isinstance(figures, dict) and "first_token_us" in figures:
                cost, ratio = _text(figures["first_token_us"], 0), _text(figures["first_token_sooner_by"], 2)
                print(f"{'  µs to the first token, p50':38}{name:24}{cost:>26}{ratio:>24}")


def _text(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} [{spread['min']:.{digits}f}–{spread['max']:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tasks and tokens, for a quick look")
    parser.add_argument("--no-triton", action="store_true", help="only the cannon")
    parser.add_argument("--only", default="", help="only rows whose name has this in it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    where = pin_client()
    targets = [(cannon_rows, cannon)] if options.no_triton else [(cannon_rows, cannon), (triton_rows, triton)]
    results: list[dict[str, object]] = []
    with ExitStack() as stack:
        for make_rows, server in targets:
            rows = [row for row in make_rows(options.scale) if options.only in row.name]
            if rows:
                started = stack.enter_context(server())
                address = started if isinstance(started, str) else started.grpc_url.removeprefix("grpc://")
                results += asyncio.run(run(address, rows, options.rounds))
    if options.json:
        print(json.dumps(results))
        return
    print(f"{where}; {options.rounds} rounds")
    show(results)


if __name__ == "__main__":
    main()
