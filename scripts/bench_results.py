"""What the benchmarks printed, brought into one form. No I/O.

A ratio is what another costs over what ours costs: above 1 ours is cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from worker_adapter.bench.peers import NotRun
from worker_adapter.bench.report import Machine
from worker_adapter.bench.samples import Spread

Json = Any
FLOOR = "floor, checks nothing"


class Beside(msgspec.Struct, frozen=True):
    """Another way to the same, measured in the same run."""

    name: str
    cost: Spread
    ratio: Spread


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured, of ours and of others."""

    name: str
    unit: str
    ours: Spread
    beside: tuple[Beside, ...] = ()


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What one benchmark found, or why it found nothing."""

    title: str
    command: str
    seconds: float
    load_1m: float | None
    """While it ran: at its end."""
    rows: tuple[Row, ...] = ()
    failed: str | None = None


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run. `form` changes when a reader of it would have to."""

    form: int = 1
    date: str
    machine: Machine
    rounds: int
    scale: float
    sections: tuple[Section, ...]
    not_run: tuple[NotRun, ...] = ()


def tokens(found: Json) -> Iterator[Row]:
    """`tokens.py`: per row, the clients with their figures."""
    peers = {
        "tritonclient, text only": "tritonclient.grpc.aio, text only",
        "tritonclient, same work": "tritonclient.grpc.aio, same work",
        "grpc.aio, text only": "grpc.aio, text only",
    }
    for each in found:
        yield _by_rounds(each["row"], each["unit"], each, "submit", peers, "cpu_us_rounds")
        if "first_token_us_rounds" in each["submit"]:
            unit = "µs to the first token, p50"
            yield _by_rounds(each["row"], unit, each, "submit", peers, "first_token_us_rounds")
        if "submit, uvloop" in each:
            others = peers | {"tritonclient, text only, uvloop": "tritonclient.grpc.aio, text only, uvloop"}
            yield _by_rounds(f"{each['row']}, on uvloop", each["unit"], each, "submit, uvloop", others, "cpu_us_rounds")


def lateness(found: Json) -> Iterator[Row]:
    """`lateness.py`: from the moment at which a token is sent until its reader has it."""
    for way, clients in found["late"].items():
        for figure, unit in (("p50_ms", "ms late, p50"), ("p99_ms", "ms late, p99"), ("cpu_us", "µs CPU per token")):
            costs = {name: {figure: figures[figure]["rounds"]} for name, figures in clients.items()}
            name = f"{found['streams']} streams × 50 tokens/s, {way}"
            yield _by_rounds(name, unit, costs, "submit", {"tritonclient": "tritonclient.grpc.aio"}, figure)
            if "submit, uvloop" in costs:
                peers = {"tritonclient, uvloop": "tritonclient.grpc.aio, uvloop"}
                yield _by_rounds(f"{name}, on uvloop", unit, costs, "submit, uvloop", peers, figure)


def grpc_infer(found: Json) -> Iterator[Row]:
    """`grpc_infer.py`: inferences, and the memory of silent streams."""
    peers = {
        "tritonclient": "tritonclient.grpc.aio",
        "grpc.aio": "grpc.aio",
        "pytriton's client": "pytriton's client",
    }
    for size, clients in found["infer"].items():
        yield _by_rounds(size, "µs CPU per inference", clients, "infer", peers, "cpu_us_rounds")
    kib = {name: [value] for name, value in found["idle_kib"].items()}
    yield _row("a silent stream", "KiB", kib["infer"], {"tritonclient.grpc.aio": kib["tritonclient"]})


def http_infer(found: Json) -> Iterator[Row]:
    """`http_infer.py`: inferences by HTTP."""
    peers = {"tritonclient": "tritonclient.http.aio", "tritonclient, no gzip": "tritonclient.http.aio, no gzip"}
    for size, clients in found["infer"].items():
        yield _by_rounds(f"{size}, by HTTP", "µs CPU per inference", clients, "infer", peers, "cpu_us_rounds")


def slow_consumer(found: Json) -> Iterator[Row]:
    """`slow_consumer.py`: what is kept for a reader that does not read."""
    kib = {name: [each["grown_kib"] for each in rounds] for name, rounds in found["stalled"].items()}
    name = f"a reader that stalls for {found['seconds']:g} s"
    yield _row(name, "KiB per stream", kib["submit"], {"tritonclient.grpc.aio": kib["tritonclient"]})


def openai_tokens(found: Json) -> Iterator[Row]:
    """`openai_tokens.py`: tokens of an OpenAI-compatible engine, and idle streams."""
    peers = {"openai SDK": "openai's SDK", "LiteLLM": "LiteLLM", "raw": FLOOR}
    for name, clients in found["tokens"].items():
        yield _by_rounds(name, "µs CPU per token", clients, "submit", peers, "cpu_us_rounds")
    kib = {peers.get(name, name): [figures["kib_per_stream"]] for name, figures in found["idle"].items()}
    yield _row("an idle stream, by HTTP", "KiB", kib.pop("submit"), kib)


def http_clients(found: Json) -> Iterator[Row]:
    """`http_clients.py`: events, small and large bodies over HTTP/1.1."""
    peers = {"aiohttp": "aiohttp", "httpx": "httpx", "floor": FLOOR}
    for name, clients in found["rows"].items():
        costs = {client: [each["cpu_us"] for each in rounds] for client, rounds in clients.items()}
        others = {peers[client]: cost for client, cost in costs.items() if client in peers}
        yield _row(name, "µs CPU", costs["kit"], others)


def host_cost(found: Json) -> Iterator[Row]:
    """`host_cost.py`: what a gateway's own process pays, by `row | path | gateway`."""
    rows: dict[tuple[str, str], dict[str, Spread]] = {}
    for key, figures in found.items():
        row, path, gateway = key.split(" | ")
        spread = Spread(figures["least"], figures["middle"], figures["most"])
        rows.setdefault((row, path), {})[gateway] = spread
    for (row, path), gateways in rows.items():
        ours = gateways.pop(OURS)
        beside = tuple(Beside(name, cost, _ratio_of_spreads(cost, ours)) for name, cost in gateways.items())
        yield Row(name=f"{row}, {path}", unit="", ours=ours, beside=beside)


OURS = "worker-adapter"
"""What our host is called in a benchmark of gateways."""


def _by_rounds(
    name: str, unit: str, clients: Mapping[str, Json], ours: str, peers: Mapping[str, str], key: str
) -> Row:  # fmt: skip
    others = {shown: clients[peer][key] for peer, shown in peers.items() if peer in clients}
    return _row(name, unit, clients[ours][key], others)


def _row(name: str, unit: str, ours: Sequence[float], others: Mapping[str, Sequence[float]]) -> Row:
    beside = tuple(
        Beside(peer, Spread.of(cost), Spread.of([c / o for c, o in zip(cost, ours, strict=True)]))
        for peer, cost in others.items()
        if all(each > 0 for each in (*ours, *cost))
    )
    return Row(name=name, unit=unit, ours=Spread.of(ours), beside=beside)


def _ratio_of_spreads(theirs: Spread, ours: Spread) -> Spread:
    """Return the ratio of the middles, and the widest range that the two leave open."""
    return Spread(theirs.min / ours.max, theirs.median / ours.median, theirs.max / ours.min)
