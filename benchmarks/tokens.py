"""What a token, a task and a first token cost the client: `TritonAdapter.submit` against `tritonclient.grpc.aio`.

Two baselines: tritonclient for the text alone, and tritonclient for all that `submit` brings (`clients.py`). CPU time
is the process's, of all threads; server and client are different processes. The clients take turns within each round,
on uvloop too where that is installed, and every text, finish reason and count is checked. Each figure is the median of
the rounds with their range. A ratio is the baseline's cost over the client's, so more than 1 means that the client is
cheaper: round by round, and of the best rounds, which a machine that does other things as well disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter, process_time

import grpc.aio
import tritonclient.grpc.aio as tc
from cannon import text_of
from clients import (
    GRPC_AIO,
    SAME_WORK,
    TEXT_ONLY,
    Answer,
    Client,
    Order,
    Told,
    by_grpc_aio,
    by_submit,
    clients,
    together,
)
from servers import cannon, pin_client, triton
from tritonclient.grpc import service_pb2_grpc

from triton_adapter import TritonAdapter, TritonSettings

BASELINES = (TEXT_ONLY, SAME_WORK)
OVER_GRPCIO = "submit, over grpcio"
ON_UVLOOP = ", uvloop"


@dataclass(frozen=True)
class Contender:
    """A client, and the event loop in which it was opened."""

    client: Client
    runner: asyncio.Runner


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
        order = Order(model, f"cannon {tokens} {burst} {pause_ms}", tokens, counted=model == "counted")
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
    many, one = (Order("tinylm", "Tell me a story", count, counted=True) for count in (tokens, 1))
    return [
        Row(f"Triton {streams}×{tokens}", "µs CPU per token", many, streams),
        Row("Triton, task after task", "µs CPU per task", one, after=after),
    ]


async def sample(client: Client, row: Row) -> tuple[Sample, str, Told | None]:
    """Measure one client once; return what it was told as well, which all clients must agree on."""
    answers: list[Answer] = []
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    for _ in range(row.after):
        answers += await together(client, row.order, row.streams)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    if len({(answer.text, answer.told) for answer in answers}) != 1 or not answers[0].text:
        raise AssertionError(f"{row.name}: not every task got the same text, or none did")
    first = median(answer.first_token_s for answer in answers)
    rate = row.order.tokens * len(answers) / wall
    return Sample(cpu / row.units * 1e6, rate, first * 1e6), answers[0].text, answers[0].told


def measure(row: Row, contenders: dict[str, Contender], rounds: int) -> dict[str, list[Sample]]:
    texts = {"".join(map(text_of, range(row.order.tokens)))} if row.order.model != "tinylm" else set()
    told: set[Told] = set()
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(-1, rounds):
        for name, contender in contenders.items():
            taken, text, said = contender.runner.run(sample(contender.client, row))
            texts.add(text)
            told |= {said} - {None}
            if len(texts) > 1 or len(told) > 1:
                raise AssertionError(f"{row.name}: {name} was told something else than the others: {told}")
            if number >= 0:  # the first round warms up
                samples[name].append(taken)
    return samples


def summary(row: Row, samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Return one row of the result, by client."""
    found: dict[str, object] = {"row": row.name, "unit": row.unit}
    for name, own in samples.items():
        found[name] = {
            "cpu_us": _spread([s.cpu_us for s in own]),
            "cpu_us_rounds": [s.cpu_us for s in own],
            "cheaper_than": {base: _ratio([s.cpu_us for s in samples[base]], [s.cpu_us for s in own])
                             for base in BASELINES},
            "tokens_per_s": _spread([s.tokens_per_s for s in own]),
        }  # fmt: skip
        if row.streams == 1 and row.order.tokens == 1:
            first = [s.first_token_us for s in own]
            found[name] |= {  # type: ignore[operator]
                "first_token_us": _spread(first),
                "first_token_us_rounds": first,
                "first_token_sooner_than": {base: _ratio([s.first_token_us for s in samples[base]], first)
                                            for base in BASELINES},
            }  # fmt: skip
    return found


def _ratio(base: list[float], own: list[float]) -> dict[str, float]:
    return _spread([b / o for b, o in zip(base, own, strict=True)]) | {"best": min(base) / min(own)}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def run(address: str, rows: list[Row], rounds: int) -> list[dict[str, object]]:
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for on, make_loop in _loops().items():
            runner = stack.enter_context(asyncio.Runner(loop_factory=make_loop))
            opened = AsyncExitStack()
            stack.callback(lambda runner=runner, opened=opened: runner.run(opened.aclose()))
            found = runner.run(_opened(opened, address))
            names = (TEXT_ONLY, "submit") if on else tuple(found)
            contenders |= {name + on: Contender(found[name], runner) for name in names}
        return [summary(row, measure(row, contenders, rounds)) for row in rows]


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return what makes the loops to measure on, by what the names of clients end with."""
    found: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"": asyncio.new_event_loop}
    with suppress(ImportError):
        import uvloop

        found[ON_UVLOOP] = uvloop.new_event_loop
    return found


async def _opened(stack: AsyncExitStack, address: str) -> dict[str, Client]:
    adapter = await stack.enter_async_context(TritonAdapter(TritonSettings(url=f"grpc://{address}")))
    by_grpcio = TritonSettings(url=f"grpc://{address}", transport="grpcio")
    over_grpcio = await stack.enter_async_context(TritonAdapter(by_grpcio))
    rival = await stack.enter_async_context(tc.InferenceServerClient(address))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    bare = partial(by_grpc_aio, service_pb2_grpc.GRPCInferenceServiceStub(channel))
    return clients(adapter, rival) | {GRPC_AIO: bare, OVER_GRPCIO: partial(by_submit, over_grpcio)}


def show(results: list[dict[str, object]]) -> None:
    against = "".join(f"{base + ' / this':>34}" for base in BASELINES)
    print(f"{'':38}{'client':34}{'cost':>24}{against}{'tokens/s':>10}")
    for found in results:
        by_client = {name: figures for name, figures in found.items() if isinstance(figures, dict)}
        titles = [found["row"], f"  {found['unit']}", *[""] * len(by_client)]
        for title, (name, figures) in zip(titles, by_client.items(), strict=False):
            cost, rate = _text(figures["cpu_us"], 1), figures["tokens_per_s"]["median"]
            print(f"{title:38}{name:34}{cost:>24}{_ratios(figures['cheaper_than'])}{rate:10.0f}")
        for name, figures in by_client.items():
            if "first_token_us" in figures:
                first = _text(figures["first_token_us"], 0)
                print(f"{'  µs to the first token, p50':38}{name:34}{first:>24}"
                      f"{_ratios(figures['first_token_sooner_than'])}")  # fmt: skip


def _ratios(by_base: dict[str, dict[str, float]]) -> str:
    texts = [f"{_text(spread, 2)}, best {spread['best']:.2f}" for spread in by_base.values()]
    return "".join(f"{text:>34}" for text in texts)


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
                results += run(address, rows, options.rounds)
    if options.json:
        print(json.dumps(results))
        return
    print(f"{where}; {options.rounds} rounds")
    show(results)


if __name__ == "__main__":
    main()
