"""What a peer must not do, section by section of RFC 9113: a typed error, and the next call works."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from adapter_api import AdapterError, ConnectFailed, ProtocolViolation
from tests.triton_adapter.transports.h2.peer import (
    ACK,
    ANSWER,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Wire,
    ask,
    block,
    data,
    frame,
    head,
    honest,
    message,
    playing,
    settings,
    trailers,
    transport_to,
)

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-003")]

PROTOCOL, FLOW, CLOSED, SIZE, COMPRESSION, CALM = 1, 3, 5, 6, 9, 11

OF_THE_CONNECTION: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "4.2 a frame above 16 KiB": (SIZE, lambda s: data(s, bytes(16385))),
    "4.2 a frame that promises 16 MiB": (SIZE, lambda s: b"\xff\xff\xff\x00\x00" + struct.pack(">I", s)),
    "4.3 a header block that no table explains": (COMPRESSION, lambda s: head(s, b"\xbe")),
    "4.3 a header block with index 0": (COMPRESSION, lambda s: head(s, b"\x80")),
    "4.3 a header block cut off in a string": (COMPRESSION, lambda s: head(s, b"\x00\x7f\xff")),
    "4.3 an integer without an end": (COMPRESSION, lambda s: head(s, b"\xff" * 200)),
    "4.3 a wrong Huffman code": (COMPRESSION, lambda s: head(s, b"\x00\x84\xff\xff\xff\xff\x00")),
    "4.3.1 a table above the agreed size": (COMPRESSION, lambda s: head(s, b"\x3f\xe1\x1f" + ANSWER)),
    "4.3 another frame inside a header block": (PROTOCOL, lambda s: head(s, flags=0) + frame(PING, bytes(8))),
    "4.3 data inside a header block": (PROTOCOL, lambda s: head(s) + head(s, b"", flags=0) + data(s)),
    "4.3 the block of another stream": (
        PROTOCOL, lambda s: head(s, flags=0) + frame(CONTINUATION, flags=END_HEADERS, stream=s + 2),
    ),
    "5.1 data on an idle stream": (PROTOCOL, lambda s: data(s + 2)),
    "5.1 a head on an idle stream": (PROTOCOL, lambda s: head(s + 2)),
    "5.1 a reset of an idle stream": (PROTOCOL, lambda s: frame(RST_STREAM, bytes(4), stream=s + 2)),
    "5.1 credit of an idle stream": (PROTOCOL, lambda s: frame(WINDOW_UPDATE, b"\0\0\0\1", stream=s + 2)),
    "5.1 data after the end": (CLOSED, lambda s: head(s) + frame(RST_STREAM, bytes(4), stream=s) + data(s)),
    "5.1.1 a stream of the server's": (PROTOCOL, lambda s: head(2)),
    "5.1.1 data on a stream of the server's": (PROTOCOL, lambda s: data(2)),
    "6.1 data on stream 0": (PROTOCOL, lambda s: data(0)),
    "6.1 padding longer than the frame": (PROTOCOL, lambda s: head(s) + data(s, b"\x05abc", flags=PADDED)),
    "6.1 padding in a frame of no byte": (PROTOCOL, lambda s: head(s) + data(s, b"", flags=PADDED)),
    "6.2 a head on stream 0": (PROTOCOL, lambda s: head(0)),
    "6.2 a head with too much padding": (PROTOCOL, lambda s: head(s, b"\xff\x88", flags=END_HEADERS | PADDED)),
    "6.2 a head too short for its priority": (SIZE, lambda s: head(s, b"\0\0", flags=END_HEADERS | 0x20)),
    "6.3 a priority of stream 0": (PROTOCOL, lambda s: frame(PRIORITY, bytes(5))),
    "6.4 a reset of stream 0": (PROTOCOL, lambda s: frame(RST_STREAM, bytes(4))),
    "6.4 a reset of 3 bytes": (SIZE, lambda s: frame(RST_STREAM, bytes(3), stream=s)),
    "6.5 settings on a stream": (PROTOCOL, lambda s: frame(SETTINGS, stream=s)),
    "6.5 settings of 5 bytes": (SIZE, lambda s: frame(SETTINGS, bytes(5))),
    "6.5 an acknowledgement that says something": (SIZE, lambda s: frame(SETTINGS, bytes(6), flags=ACK)),
    "6.5.2 push from a server": (PROTOCOL, lambda s: settings(s2=1)),
    "6.5.2 push of 2": (PROTOCOL, lambda s: settings(s2=2)),
    "6.5.2 a first window above 2^31-1": (FLOW, lambda s: settings(s4=2**31)),
    "6.5.2 frames below 16 KiB": (PROTOCOL, lambda s: settings(s5=16383)),
    "6.5.2 frames above 16 MiB": (PROTOCOL, lambda s: settings(s5=2**24)),
    "6.6 a promise": (PROTOCOL, lambda s: frame(PUSH_PROMISE, b"\0\0\0\2" + ANSWER, flags=END_HEADERS, stream=s)),
    "6.7 a ping on a stream": (PROTOCOL, lambda s: frame(PING, bytes(8), stream=s)),
    "6.7 a ping of 7 bytes": (SIZE, lambda s: frame(PING, bytes(7))),
    "6.8 a goodbye on a stream": (PROTOCOL, lambda s: frame(GOAWAY, bytes(8), stream=s)),
    "6.8 a goodbye of 7 bytes": (SIZE, lambda s: frame(GOAWAY, bytes(7))),
    "6.9 credit of nothing": (PROTOCOL, lambda s: frame(WINDOW_UPDATE, bytes(4))),
    "6.9 credit of 3 bytes": (SIZE, lambda s: frame(WINDOW_UPDATE, bytes(3), stream=s)),
    "6.9.1 a window of the connection that overflows": (FLOW, lambda s: frame(WINDOW_UPDATE, b"\x7f\xff\xff\xff") * 2),
    "6.9.1 more than the stream's window": (FLOW, lambda s: head(s) + data(s, message(bytes(15995))) * 17),
    "6.10 a continuation of nothing": (PROTOCOL, lambda s: frame(CONTINUATION, ANSWER, flags=END_HEADERS, stream=s)),
    "10.5 a header bomb": (
        CALM, lambda s: head(s, bytes(16384), flags=0) + frame(CONTINUATION, bytes(16384), stream=s) * 8,
    ),
    "10.5 a list of headers that is longer than agreed": (COMPRESSION, lambda s: head(s, b"\x82" * 16000)),
    "10.5.1 empty continuations": (CALM, lambda s: head(s, b"", flags=0) + frame(CONTINUATION, stream=s) * 10_001),
    "10.5 empty data": (CALM, lambda s: head(s) + data(s, b"") * 10_001),
    "10.5 settings without end": (CALM, lambda s: settings() * 10_001),
    "10.5 pings without end": (CALM, lambda s: frame(PING, bytes(8)) * 10_001),
    "10.5 credit without end": (CALM, lambda s: frame(WINDOW_UPDATE, b"\0\0\0\1") * 10_001),
    "10.5 priorities without end": (CALM, lambda s: frame(PRIORITY, b"\0\0\0\0\x10", stream=s) * 10_001),
    "10.5 unknown frames without end": (CALM, lambda s: frame(77, b"?") * 10_001),
}  # fmt: skip

LONG = ANSWER + block(("content-length", "8"))
OF_THE_STREAM: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "8.1 data before the head": (PROTOCOL, lambda s: data(s)),
    "8.1 trailers that end nothing": (PROTOCOL, lambda s: head(s) + head(s, block(("a", "b")))),
    "8.1.1 less than its content-length": (PROTOCOL, lambda s: head(s, LONG) + data(s) + trailers(s)),
    "8.1.1 more than its content-length": (PROTOCOL, lambda s: head(s, LONG) + data(s, bytes(9)) + trailers(s)),
    "8.1.1 a content-length and nothing": (PROTOCOL, lambda s: trailers(s, LONG + block(("grpc-status", "0")))),
    "8.1.1 a content-length of letters": (
        PROTOCOL,
        lambda s: head(s, ANSWER + block(("content-length", "seven"))) + data(s, flags=END_STREAM),
    ),
    "8.2 a name in capitals": (PROTOCOL, lambda s: head(s, ANSWER + block(("Grpc", "x")))),
    "8.2 a name of nothing": (PROTOCOL, lambda s: head(s, ANSWER + block(("", "x")))),
    "8.2 a name with a space": (PROTOCOL, lambda s: head(s, ANSWER + block(("a b", "x")))),
    "8.2.1 a value with a line break": (PROTOCOL, lambda s: head(s, ANSWER + block(("a", "x\r\ny")))),
    "8.2.1 a value with NUL": (PROTOCOL, lambda s: head(s, ANSWER + block(("a", "x\0y")))),
    "8.2.2 a header of HTTP/1.1": (PROTOCOL, lambda s: head(s, ANSWER + block(("connection", "close")))),
    "8.3 a pseudo-header after others": (PROTOCOL, lambda s: head(s, block(("a", "b"), (":status", "200")))),
    "8.3 a pseudo-header of requests": (PROTOCOL, lambda s: head(s, ANSWER + block((":path", "/")))),
    "8.3 a pseudo-header in trailers": (PROTOCOL, lambda s: head(s) + trailers(s, block((":status", "200")))),
    "8.3.2 no status": (PROTOCOL, lambda s: head(s, block(("content-type", "application/grpc")))),
    "8.3.2 two statuses": (PROTOCOL, lambda s: head(s, ANSWER[:13] * 2)),
    "8.3.2 a status of letters": (PROTOCOL, lambda s: head(s, block((":status", "abc")))),
    "gRPC: a flag of 2": (PROTOCOL, lambda s: head(s) + data(s, b"\x02\0\0\0\0")),
    "gRPC: compressed, with nothing agreed": (PROTOCOL, lambda s: head(s) + data(s, message(compressed=True))),
}


async def failing(call: object) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        await call  # type: ignore[misc]
    return caught.value


@pytest.mark.parametrize("name", OF_THE_CONNECTION)
async def test_what_the_rfc_forbids_ends_the_connection_and_no_further_one(name: str) -> None:
    code, made = OF_THE_CONNECTION[name]
    ends: list[tuple[int, ...]] = []

    async def breaks(wire: Wire) -> None:
        await wire.greet()
        wire.send(made(await wire.call()))
        ends.extend((each.kind, int.from_bytes(each.payload[4:8], "big")) for each in await wire.ending()
                    if each.kind == GOAWAY)  # fmt: skip

    async with asyncio.timeout(20), playing(breaks, honest) as peer, transport_to(peer) as transport:
        error = await failing(ask(transport))
        assert await ask(transport), "the next call goes by a new connection"
        assert len(peer.wires) == 2
    assert ends == [(GOAWAY, code)]
    if not name.startswith("5.1 data after"):
        assert type(error) is ProtocolViolation, error


@pytest.mark.parametrize("name", OF_THE_STREAM)
async def test_a_malformed_answer_ends_its_call_and_not_the_connection(name: str) -> None:
    code, made = OF_THE_STREAM[name]

    async def breaks(wire: Wire) -> None:
        await wire.greet()
        wire.send(made(await wire.call()))
        reset = await wire.until(RST_STREAM)
        assert int.from_bytes(reset.payload, "big") == code
        stream = await wire.call()
        wire.send(head(stream), data(stream), trailers(stream))
        await wire.ending()

    async with asyncio.timeout(20), playing(breaks) as peer, transport_to(peer) as transport:
        error = await failing(ask(transport))
        assert await ask(transport)
        assert len(peer.wires) == 1
    assert type(error) is ProtocolViolation, error


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", bytes(9), b"\xff" * 64,
     frame(PING, bytes(8)), frame(SETTINGS, flags=ACK), frame(SETTINGS, stream=1), frame(GOAWAY, bytes(8)), b""],
)  # fmt: skip
async def test_what_does_not_speak_http2_is_told_at_once(said: bytes) -> None:
    async def other(wire: Wire) -> None:
        await wire.reader.read(24)
        wire.send(said)
        await wire.writer.drain()
        if said:
            await wire.ending()

    async with asyncio.timeout(20), playing(other) as peer, transport_to(peer) as transport:
        error = await failing(ask(transport))
    assert type(error) is ConnectFailed, error


@pytest.mark.parametrize("first", [HEADERS, DATA])
async def test_an_answer_before_the_settings_is_no_http2(first: int) -> None:
    async def early(wire: Wire) -> None:
        wire.send(frame(first, ANSWER, flags=END_HEADERS | END_STREAM, stream=1))
        await wire.ending()

    async with asyncio.timeout(20), playing(early) as peer, transport_to(peer) as transport:
        assert type(await failing(ask(transport))) is ConnectFailed
