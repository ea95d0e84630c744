"""A peer that keeps to the rules in the most awkward ways: what it says arrives to the byte, whatever the frames."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Sequence

import pytest

from tests.triton_adapter.transports.h2.peer import (
    ANSWER,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FINE,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    WINDOW_UPDATE,
    Wire,
    block,
    frame,
    message,
    playing,
    settings,
    transport_to,
)
from triton_adapter.schema import Reply, Run
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-001")]

GZIP = ANSWER + block(("grpc-encoding", "gzip"))
WITH_PRIORITY = 0x20
ALPHABETS = (
    "etaoin shrdlu,.\n", "äöüßéñ", "日本語中文한국어", "שלום مرحبا\u202e\u200f", "😀👨‍👩‍👧🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "e\u0301a\u0328o\u0302\u0323Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍", "\x00\x01\x7f\t\r\\\"{}", "\ufeff\ufffd\u2028\U0010ffff",
)  # fmt: skip
ROOM = 256 * 1024
"""What a client gives each stream; a little is kept back for padding."""


def token(text: str, *, final: bool, shape: int) -> bytes:
    """Return a streamed reply with a text, in one of the shapes that servers use."""
    response = v2.ModelInferResponse(model_name="m", model_version="1" if shape % 2 else "")
    data = text.encode()
    output = response.outputs.add(name="text_output", datatype="BYTES", shape=[1, 1] if shape % 3 == 0 else [1])
    if shape % 5 == 4:
        output.contents.bytes_contents.append(data)
    else:
        response.raw_output_contents.append(len(data).to_bytes(4, "little") + data)
    if final or shape % 7 == 3:
        response.parameters["triton_final_response"].bool_param = final
    return v2.ModelStreamInferResponse(infer_response=response).SerializeToString()


def texts(chance: random.Random, count: int) -> list[str]:
    """Return texts of all lengths and alphabets, mostly short."""
    found = []
    for _ in range(count):
        size = chance.choice((0, 1, 1, 2, 3, 3, 4, 4, 5, 8, 30, 126, 127, 128, 129, 255, 300, 2000, 16_370, 16_384))
        letters = chance.choice(ALPHABETS)
        found.append("".join(chance.choice(letters) for _ in range(size)))
    if chance.random() < 0.3:
        found[chance.randrange(count)] = "".join(chance.choice(ALPHABETS[4]) for _ in range(25_000))  # 100 kB
    return found


class Awkward:
    """Cuts what it says into lawful frames at random; `small` is how often pieces are of one byte."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.small = chance.random()
        self._idle = 0.3 * chance.random()

    def head(self, stream: int, headers: bytes, *, last: bool = False) -> list[bytes]:
        """Return a header block as HEADERS, which may be padded and have a priority, and CONTINUATIONs."""
        chance, end = self._chance, END_STREAM if last else 0
        pieces = self._pieces(headers) if chance.random() < 0.5 else [headers]
        first, rest = pieces[0], pieces[1:]
        flags = end | (0 if rest else END_HEADERS)
        if chance.random() < 0.5:
            first, flags = chance.randbytes(4) + b"\x07" + first, flags | WITH_PRIORITY
        if chance.random() < 0.5:
            size = chance.choice((0, 1, 255))
            first, flags = bytes((size,)) + first + bytes(size), flags | PADDED
        found = frame(HEADERS, first, flags=flags, stream=stream)
        for number, piece in enumerate(rest):
            if chance.random() < 0.2:
                found += frame(CONTINUATION, stream=stream)
            final = END_HEADERS if number == len(rest) - 1 else 0
            found += frame(CONTINUATION, piece, flags=final, stream=stream)
        return [found]

    def data(self, stream: int, payload: bytes) -> list[bytes]:
        """Return DATA frames, some of them padded, some of them empty; flags that have no meaning may be set."""
        chance, found = self._chance, []
        for piece in self._pieces(payload):
            flags = chance.choice((0, 0, 0, 0x40, 0x10 | 0x02))
            if chance.random() < 0.2:
                size = chance.choice((0, 1, 9, 255))
                piece, flags = bytes((size,)) + piece + bytes(size), flags | PADDED
            found.append(frame(DATA, piece, flags=flags, stream=stream))
            if chance.random() < 0.05:
                found.append(frame(DATA, stream=stream))
        return found

    def between(self, stream: int) -> bytes:
        """Return something that may stand between any two frames."""
        chance = self._chance
        if chance.random() > self._idle:
            return b""
        return chance.choice((
            frame(PING, chance.randbytes(8)),
            frame(PING, chance.randbytes(8), flags=1),
            settings(s3=chance.choice((100, 1000)), s99=chance.getrandbits(32)),
            settings(s4=chance.choice((65_535, 70_000)), s1=0, s5=chance.choice((16_384, 20_000))),
            frame(PRIORITY, b"\0\0\0\0\x10", stream=chance.choice((stream, stream + 100))),
            frame(WINDOW_UPDATE, b"\0\0\0\x01"),
            frame(WINDOW_UPDATE, b"\0\0\0\x01", stream=stream),
            frame(chance.randrange(10, 256), chance.randbytes(chance.randrange(30)), flags=chance.randrange(256),
                  stream=chance.choice((0, stream, 2, stream + 100))),
        ))  # fmt: skip

    def _pieces(self, payload: bytes) -> list[bytes]:
        chance, found, at = self._chance, [], 0
        one = len(payload) < 5000 and chance.random() < self.small
        while at < len(payload):
            size = 1 if one else chance.choice((1, 4, 5, 6, 9, 100, 3000, 16_000))
            found.append(payload[at : at + size])
            at += size
        return found or [b""]


async def say(wire: Wire, awkward: Awkward, chance: random.Random, frames: dict[int, list[bytes]]) -> None:
    """Send the frames of streams, those of each in their order and the streams mixed, as far as the client lets."""
    room = dict.fromkeys(frames, ROOM)
    while frames:
        stream = chance.choice(list(frames))
        shot = frames[stream][0]
        size = len(shot) - 9 if shot[3] == DATA else 0
        if size > room[stream]:
            if all(len(each[0]) - 9 > room[number] for number, each in frames.items()):
                found = await wire.until(WINDOW_UPDATE)
                if found.stream in room:
                    room[found.stream] += int.from_bytes(found.payload, "big")
            else:
                await asyncio.sleep(0)
            continue
        room[stream] -= size
        frames[stream].pop(0)
        if not frames[stream]:
            del frames[stream]
        said = shot + awkward.between(stream)
        step = chance.choice((1, 2, 9, 50_000)) if len(said) < 200 else 50_000
        for at in range(0, len(said), step):
            wire.send(said[at : at + step])
            if chance.random() < 0.02:
                await wire.writer.drain()
                await asyncio.sleep(0)


async def heard(transport: H2Transport, *, in_runs: bool) -> tuple[list[bytes], bool]:
    """Return the texts of one stream, and whether the last reply said that it is."""
    call = await transport.stream(WireRequest("m", ()), timeout_s=50)
    found: list[bytes] = []
    final = False
    try:
        while True:
            replies: Sequence[Reply | Run] | None
            if not in_runs:
                replies = await call.read()
            else:
                while (replies := call.take_runs()) is None:
                    await call.arrival()
            if not replies:
                return found, final
            for reply in replies:
                if isinstance(reply, Run):
                    found += [bytes(each) for each in reply.texts]
                else:
                    found.append(bytes(reply.outputs["text_output"].data)[4:])
                    final = bool(reply.final)
    finally:
        call.cancel()


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(12, 200))])
async def test_what_an_awkward_peer_says_is_heard_to_the_byte(seed: int) -> None:
    chance = random.Random(seed)
    streams = chance.choice((1, 1, 2, 5))
    spoken: list[list[str]] = [texts(chance, chance.choice((1, 3, 40, 80))) for _ in range(streams)]

    async def script(wire: Wire) -> None:
        await wire.greet()
        awkward = Awkward(chance)
        frames: dict[int, list[bytes]] = {}
        for words in spoken:
            stream, shape, packed = await wire.call(), chance.randrange(100), chance.random() < 0.3
            said = b""
            for number, text in enumerate(words):
                each = token(text, final=number == len(words) - 1, shape=shape + (chance.random() < 0.1))
                squeezed = packed and chance.random() < 0.5
                said += message(gzip.compress(each) if squeezed else each, compressed=squeezed)
            body = awkward.data(stream, said)
            interim = awkward.head(stream, block((":status", "103"))) if chance.random() < 0.2 else []
            trailers = awkward.head(stream, FINE + block(("x-more", "?")), last=True)
            frames[stream] = [*interim, *awkward.head(stream, GZIP if packed else ANSWER), *body, *trailers]
        await say(wire, awkward, chance, frames)
        await wire.ending()

    async with asyncio.timeout(60), playing(script) as peer, transport_to(peer) as transport:
        found = await asyncio.gather(*(heard(transport, in_runs=bool(seed % 2)) for _ in spoken))
        assert len(peer.wires) == 1
    for words, (said, final) in zip(spoken, found, strict=True):
        assert said == [each.encode() for each in words]
        assert final
