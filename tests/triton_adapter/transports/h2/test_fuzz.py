"""A peer that mixes right and wrong at random: each call ends, in an answer or an error of the contract."""

from __future__ import annotations

import asyncio
import random

import pytest

from adapter_api import AdapterError
from tests.triton_adapter.transports.h2.peer import (
    DATA,
    END_STREAM,
    Wire,
    answer,
    ask,
    data,
    frame,
    head,
    playing,
    settings,
    trailers,
    transport_to,
)

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-003")]


def noise(chance: random.Random, stream: int) -> bytes:
    """Return some bytes that may follow a call."""
    choice = chance.randrange(8)
    if choice == 0:
        return chance.randbytes(chance.randrange(200))
    if choice == 1:
        kind, flags, where = chance.randrange(12), chance.randrange(256), chance.choice([0, stream, stream + 2, 2])
        return frame(kind, chance.randbytes(chance.choice([0, 4, 5, 6, 8, 12, 100])), flags=flags, stream=where)
    if choice == 2:
        return settings(**{f"s{chance.randrange(1, 8)}": chance.choice([0, 1, 16384, 65535, 2**31 - 1, 2**32 - 1])})
    if choice == 3:
        return head(stream, chance.randbytes(chance.randrange(40)))
    if choice == 4:
        return data(stream, chance.randbytes(chance.randrange(40)))
    if choice == 5:
        broken = bytearray(answer(stream))
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        return bytes(broken)
    if choice == 6:
        return head(stream) + data(stream) + trailers(stream)[: chance.randrange(20)]
    return answer(stream)


async def run(seed: int, calls: int) -> list[BaseException | bool]:
    chance = random.Random(seed)

    async def peer_of(wire: Wire) -> None:
        await wire.greet()
        while (found := await wire.frame()) is not None:
            if found.kind == DATA and found.flags & END_STREAM:
                said = noise(chance, found.stream)
                while said:
                    size = chance.choice([1, 5, 9, 1000])
                    wire.send(said[:size])
                    said = said[size:]
                    await asyncio.sleep(0)
                if chance.randrange(6) == 0:
                    return

    async with asyncio.timeout(60), playing(peer_of) as peer, transport_to(peer) as transport:
        asked = [ask(transport, timeout_s=0.05 + chance.random() / 20) for _ in range(calls)]
        return await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(20, 400))])
async def test_each_call_ends_whatever_the_peer_says(seed: int) -> None:
    for outcome in await run(seed, 8):
        assert outcome in (True, False) or isinstance(outcome, AdapterError), repr(outcome)
