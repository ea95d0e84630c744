"""How late a token is: from the moment at which the server sends it until whoever reads the stream has it.

512 streams of 50 tokens per second each, in two ways: the tokens of all streams at the same moment, as an engine sends
them that works on its tasks together, and spread evenly over the time between two tokens. Each token's text is the
moment at which it was sent, by the one monotonic clock that all processes of a machine have; server and client are
different processes. Clients take turns, each in a process of its own, with uvloop too where that is installed. The
first third of the tokens is not counted: meanwhile the streams begin.

A client that cannot keep up is later and later: its figures are those of a queue, and say so by their size.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from statistics import median
from time import monotonic_ns, process_time

import tritonclient.grpc.aio as tc
from clients import Order, tritonclient_texts
from servers import cannon, pin_client

from adapter_api import Error, Token
from triton_adapter import TritonAdapter, TritonSettings

THEIRS, OURS, GRPCIO = "tritonclient", "submit", "submit, over grpcio"
ON_UVLOOP = ", uvloop"
Texts = Callable[[Order], AsyncIterator[str]]


async def sample(address: str, client: str, order: Order, streams: int) -> dict[str, float]:
    """Return how late the tokens of so many streams were, in ms, and what one of them cost."""
    async with AsyncExitStack() as stack:
        texts = await _texts(stack, address, client)
        async for _ in texts(Order("text", "cannon 64 64 0", 64)):
            pass  # whatever is made once is made
        gc.collect()
        cpu = process_time()
        found = await asyncio.gather(*(_late(texts(order), order.tokens) for _ in range(streams)))
        cpu = process_time() - cpu
    late = sorted(each for one in found for each in one)
    return {
        "p50_ms": late[len(late) // 2] / 1e6,
        "p99_ms": late[len(late) * 99 // 100] / 1e6,
        "cpu_us": cpu / (streams * order.tokens) * 1e6,
    }


async def _late(texts: AsyncIterator[str], tokens: int) -> list[int]:
    late = [monotonic_ns() - int(text, 16) async for text in texts]
    if len(late) != tokens or min(late) < 0:
        raise RuntimeError(f"{len(late)} of {tokens} tokens came, or one before it was sent")
    return late[tokens // 3 :]


async def _texts(stack: AsyncExitStack, address: str, client: str) -> Texts:
    if client == THEIRS:
        rival = await stack.enter_async_context(tc.InferenceServerClient(address))
        return lambda order: tritonclient_texts(rival, order)
    transport = "grpcio" if client == GRPCIO else "auto"
    settings = TritonSettings.model_validate({"url": f"grpc://{address}", "transport": transport})
    adapter = await stack.enter_async_context(TritonAdapter(settings))
    return lambda order: _ours(adapter, order)


async def _ours(adapter: TritonAdapter, order: Order) -> AsyncIterator[str]:
    async for event in adapter.submit(order.task()):
        if type(event) is Token:
            yield event.text
        elif type(event) is Error:
            raise RuntimeError(event.message)


def contenders() -> list[str]:
    """Return the clients, the one to compare with first."""
    plain = [THEIRS, OURS, GRPCIO]
    return plain + ([name + ON_UVLOOP for name in (THEIRS, OURS)] if find_spec("uvloop") else [])


def run_one(address: str, name: str, order: Order, streams: int) -> None:
    """Measure one client, in this process, and print what was found."""
    pin_client()
    asked = sample(address, name.removesuffix(ON_UVLOOP), order, streams)
    if name.endswith(ON_UVLOOP):
        import uvloop

        print(json.dumps(uvloop.run(asked)))
    else:
        print(json.dumps(asyncio.run(asked)))


def measure(rounds: int, streams: int, tokens: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with cannon() as address:
        for row, moments in (("at one moment", 1), ("spread", streams)):
            by_client = found[row] = {name: [] for name in contenders()}
            for _ in range(rounds):
                for name, samples in by_client.items():
                    given = [f"--streams={streams}", f"--tokens={tokens}", f"--moments={moments}"]
                    command = [sys.executable, __file__, *given, "--client", address, name]
                    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
                    samples.append(json.loads(ran.stdout))
    return found


def summary(samples: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, object]:
    """Return the median of the rounds with their range, and how much better than `base`, round by round."""
    found: dict[str, object] = {}
    for figure in samples[0]:
        own = [each[figure] for each in samples]
        ratios = [other[figure] / each for other, each in zip(base, own, strict=True)]
        found[figure] = _spread(own) | {"rounds": own, "better": _spread(ratios)}
    return found


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=150, help="of each stream, one per 20 ms")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--moments", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        prompt = f"stamped {options.tokens} 20 {options.moments}"
        run_one(*options.client, Order("text", prompt, options.tokens), options.streams)
        return 0
    where = pin_client()
    found = {
        row: {name: summary(samples, by_client[THEIRS]) for name, samples in by_client.items()}
        for row, by_client in measure(options.rounds, options.streams, options.tokens).items()
    }
    if options.json:
        print(json.dumps({"where": where, "streams": options.streams, "late": found}))
        return 0
    print(f"{where}; {options.streams} streams, a token per 20 ms; {options.rounds} rounds; × is against {THEIRS}")
    for row, by_client in found.items():
        for name, figures in by_client.items():
            shown = "".join(f"{_text(figures[figure], unit):>38}" for figure, unit in _SHOWN)
            print(f"{row:16}{name:24}{shown}")
    return 0


_SHOWN = (("p50_ms", "ms p50"), ("p99_ms", "ms p99"), ("cpu_us", "µs CPU"))


def _text(figure: object, unit: str) -> str:
    assert isinstance(figure, dict)
    return f"{figure['median']:.2f} {unit} [{figure['min']:.2f}–{figure['max']:.2f}] {figure['better']['median']:.2f}×"


if __name__ == "__main__":
    sys.exit(main())
