"""What the stream guard costs per event, against reading the adapter's generator bare.

Rows: events yielded one by one, and in lists of 64, that are ready at once; and one by one with a trip through the
event loop before each, as a network brings them. Minimum of interleaved rounds, process CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable
from time import process_time

from adapter_api import End, Started, Token, TokenEvent, TokenStream

Source = Callable[[int], AsyncIterator[TokenEvent | list[TokenEvent]]]


async def one_by_one(count: int) -> AsyncIterator[TokenEvent | list[TokenEvent]]:
    yield Started(job_id="j", engine="bench", model="m")
    for index in range(count):
        yield Token(index, "x")
    yield End(finish_reason="stop")


async def in_lists(count: int) -> AsyncIterator[TokenEvent | list[TokenEvent]]:
    yield Started(job_id="j", engine="bench", model="m")
    for start in range(0, count, 64):
        yield [Token(index, "x") for index in range(start, min(start + 64, count))]
    yield End(finish_reason="stop")


async def after_a_wait(count: int) -> AsyncIterator[TokenEvent | list[TokenEvent]]:
    yield Started(job_id="j", engine="bench", model="m")
    for index in range(count):
        await asyncio.sleep(0)
        yield Token(index, "x")
    yield End(finish_reason="stop")


async def bare(source: Source, count: int) -> None:
    async for item in source(count):
        if isinstance(item, list):
            for _ in item:
                pass


async def guarded(source: Source, count: int) -> None:
    async for _ in TokenStream(source(count), job_id="j"):
        pass


async def guarded_in_batches(source: Source, count: int) -> None:
    async for batch in TokenStream(source(count), job_id="j").batches():
        for _ in batch:
            pass


READERS = (bare, guarded, guarded_in_batches)
SOURCES: dict[str, Source] = {"one by one": one_by_one, "lists of 64": in_lists, "after a wait": after_a_wait}


async def measure(count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds of CPU per token by source and reader."""
    best: dict[str, dict[str, float]] = {name: {} for name in SOURCES}
    for _ in range(rounds):
        for name, source in SOURCES.items():
            for reader in READERS:
                began = process_time()
                await reader(source, count)
                spent = (process_time() - began) / count * 1e6
                best[name][reader.__name__] = min(spent, best[name].get(reader.__name__, spent))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = asyncio.run(measure(options.tokens, options.rounds))
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'µs CPU per token':16}" + "".join(f"{reader.__name__:>20}" for reader in READERS) + f"{'guard adds':>14}")
    for name, row in result.items():
        added = row["guarded"] - row["bare"]
        print(f"{name:16}" + "".join(f"{row[reader.__name__]:20.3f}" for reader in READERS) + f"{added:14.3f}")


if __name__ == "__main__":
    main()
