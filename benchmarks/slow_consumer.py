"""What a consumer that stalls costs the client: memory that grows while the server would send on, and no token.

Each client, in a process of its own, begins streams of a server that shoots tokens as fast as it is read, takes one
token of each, and stops reading for a while. Then it reads on to the end, and every text is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import tritonclient.grpc.aio as tc
from cannon import text_of
from clients import Order, tritonclient_texts
from servers import cannon, pin_client

from adapter_api import Token
from triton_adapter import TritonAdapter, TritonSettings

OURS, GRPCIO, THEIRS = "submit", "submit, over grpcio", "tritonclient"
Texts = Callable[[Order], AsyncIterator[str]]


async def stall(address: str, name: str, streams: int, tokens: int, seconds: float) -> dict[str, float]:
    """Return by how many KiB memory grew per stream while nobody read."""
    order = Order("text", f"cannon {tokens} 64 0", tokens)
    async with AsyncExitStack() as stack:
        texts = await _client(stack, address, name)
        # Whatever is made once is made.
        await _rest(texts(Order("text", "cannon 64 64 0", 64)))
        gc.collect()
        before = rss_kib()
        readers = [texts(order) for _ in range(streams)]
        firsts = await asyncio.gather(*map(anext, readers))
        await asyncio.sleep(seconds)
        grown = (rss_kib() - before) / streams
        whole = "".join(map(text_of, range(tokens)))
        for first, rest in zip(firsts, await asyncio.gather(*map(_rest, readers)), strict=True):
            if first + rest != whole:
                raise RuntimeError(f"{name} lost tokens")
        return {"grown_kib": grown, "sent_kib": len(whole) / 1024}


async def _client(stack: AsyncExitStack, address: str, name: str) -> Texts:
    if name == THEIRS:
        rival = await stack.enter_async_context(tc.InferenceServerClient(address))
        return lambda order: tritonclient_texts(rival, order)
    settings = {"url": f"grpc://{address}", "transport": "grpcio" if name == GRPCIO else "auto"}
    # As long as it takes: the stall is what is measured.
    settings |= {"inter_token_timeout_s": "600", "timeout_s": "600"}
    adapter = await stack.enter_async_context(TritonAdapter(TritonSettings.model_validate(settings)))
    return lambda order: _ours(adapter, order)


async def _ours(adapter: TritonAdapter, order: Order) -> AsyncIterator[str]:
    async for event in adapter.submit(order.task()):
        if type(event) is Token:
            yield event.text


async def _rest(texts: AsyncIterator[str]) -> str:
    return "".join([text async for text in texts])


def rss_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=20_000, help="of each stream")
    parser.add_argument("--seconds", type=float, default=3.0, help="in which nobody reads")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = (options.streams, options.tokens, options.seconds)
    if options.client:
        print(json.dumps(asyncio.run(stall(*options.client, *numbers))))
        return 0
    where = pin_client()
    found: dict[str, list[dict[str, float]]] = {THEIRS: [], OURS: [], GRPCIO: []}
    again = [sys.executable, __file__, "--streams", str(numbers[0]), "--tokens", str(numbers[1])]
    with cannon() as address:
        for _ in range(options.rounds):
            for name, rounds in found.items():
                command = [*again, "--seconds", str(numbers[2]), "--client", address, name]
                ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=options.seconds + 120)
                rounds.append(json.loads(ran.stdout))
    if options.json:
        print(json.dumps({"where": where, "seconds": options.seconds, "stalled": found}))
        return 0
    print(f"{where}; {options.streams} streams, of {options.tokens} tokens each, stalled for {options.seconds:g} s")
    for name, rounds in found.items():
        grown = sorted(each["grown_kib"] for each in rounds)
        print(f"{name:24}{grown[len(grown) // 2]:12.1f} KiB per stream [{grown[0]:.1f}–{grown[-1]:.1f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
