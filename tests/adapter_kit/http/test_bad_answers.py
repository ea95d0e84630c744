"""Answers that break the rules, or break off: a typed error in bounded time and memory, and the client lives on."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import (
    ConnectionLost,
    DeadlineExceeded,
    ProtocolViolation,
    StreamIncomplete,
    TransportError,
)
from adapter_kit.http import HttpClient, HttpSettings
from adapter_kit.http.received import Received
from tests.adapter_kit.http.peers import OK, Peer, once, read_to_the_end, serving

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5\r\nhello\r\n7;e=1\r\n, world\r\n0\r\nT: t\r\n\r\n"
)
COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: y\r\n\r\nhello, world"

GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an alert of TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTML without HTTP": b"<html><body>502 Bad Gateway</body></html>",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3 in words": b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status there is not": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "a name with a blank": b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
    "a length in words": b"HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\nabc",
    "a length beyond all": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk that is longer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "interim answers only": b"HTTP/1.1 102 Processing\r\n\r\n" * 100,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    "packed in an unknown way": b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
    "gzip that is none": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\nhello, world",
    "deflate that is none": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 12\r\n\r\nhello, world",
}


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-006")
@pytest.mark.parametrize("name", GARBAGE)
async def test_what_breaks_the_rules_is_a_violation_and_the_next_request_works(name: str) -> None:
    wires = iter([GARBAGE[name], OK])

    async def script(peer: Peer) -> None:
        while True:
            await peer.asked()
            await peer.send(next(wires))

    async with serving(script) as server:
        client = HttpClient(server.url)
        with pytest.raises(ProtocolViolation) as caught:
            await client.request("GET", "/", timeout_s=10)

        assert server.url in caught.value.message
        assert (await client.request("GET", "/", timeout_s=10)).body == b"ok"
        assert client.open_connections == client.idle_connections == 1
        await client.aclose()


ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536),
    "a name of a header": (b"HTTP/1.1 200 OK\r\nX", b"y" * 65536),
    "a status line": (b"HTTP/1.1 200 ", b"y" * 65536),
    "an extension of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;", b"y" * 65536),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
    "a size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
}


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-006")
@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_ends_is_given_up_after_little(name: str) -> None:
    head, more = ENDLESS[name]
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.asked()
        await peer.send(head)
        while sent < 100_000_000:
            await peer.send(more)
            sent += len(more)

    async with serving(script) as server:
        client = HttpClient(server.url)
        tracemalloc.start()
        with pytest.raises(ProtocolViolation):
            await client.request("GET", "/", timeout_s=20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await server.closed.get()

        # What the sockets of both sides hold was sent, too.
        assert sent < 50_000_000
        assert peak < 4_000_000
        await client.aclose()


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-007")
@pytest.mark.parametrize("wire", [CHUNKED, COUNTED])
@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_that_is_cut_at_any_byte_is_an_error_and_never_an_answer(wire: bytes, reset: bool) -> None:
    cut_at = 0

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(wire[:cut_at])
        if reset:
            peer.reset()

    async with serving(script) as server:
        client = HttpClient(server.url)
        head = wire.index(b"\r\n\r\n") + 4
        for cut_at in range(len(wire)):
            with pytest.raises(TransportError) as caught:
                await client.request("GET", "/", timeout_s=10)
            expected = ConnectionLost if cut_at < head or reset else StreamIncomplete
            assert type(caught.value) is expected, cut_at
        assert client.idle_connections == 0
        await client.aclose()


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-007")
async def test_what_came_before_the_cut_is_read_before_the_error() -> None:
    async with serving(once(COUNTED[:-5])) as server:
        client = HttpClient(server.url)
        read: list[bytes] = []
        with pytest.raises(StreamIncomplete, match="7 of 12 bytes"):
            await read_to_the_end(client, read, timeout_s=10)

        assert b"".join(read) == b"hello, "
        await client.aclose()


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-007", "ORCH-3068-017")
@pytest.mark.parametrize("length", [10_000, 3_000_000, 10**17])
async def test_a_length_that_lies_costs_no_memory(length: int) -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello" % length
    async with serving(once(wire)) as server:
        client = HttpClient(server.url)
        tracemalloc.start()
        with pytest.raises(StreamIncomplete):
            await client.request("GET", "/", timeout_s=10, limit=10**18)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert peak < 10_000_000
        await client.aclose()


class LargestOnly(list[bytes]):
    """Keeps nothing but how large the largest piece was."""

    largest = 0

    def append(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-012")
async def test_packed_bodies_are_cut_and_bounded_like_others() -> None:
    packed = gzip.compress(bytes(30_000_000), 9)
    wire = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"

    bodies = iter([packed[:-100], packed])

    async def script(peer: Peer) -> None:
        while True:
            await peer.asked()
            body = next(bodies)
            await peer.send(wire % len(body) + body)

    async with serving(script) as server:
        client = HttpClient(server.url)
        tracemalloc.start()
        pieces = LargestOnly()
        with pytest.raises(StreamIncomplete, match="ends in its middle"):
            await read_to_the_end(client, pieces, timeout_s=20)
        with pytest.raises(ProtocolViolation, match="longer than 1000000 bytes"):
            await client.request("GET", "/", timeout_s=20, limit=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert pieces.largest <= 256 * 1024
        assert peak < 6_000_000
        await client.aclose()


def received(*parts: bytes) -> Received | ProtocolViolation:
    found = Received(head_only=False, max_head_bytes=1000, max_headers=20)
    try:
        for part in parts:
            found.feed(memoryview(part))
    except ProtocolViolation as exc:
        return exc
    return found


@pytest.mark.spec("ORCH-3068-006")
@pytest.mark.parametrize("wire", [CHUNKED, COUNTED, b"HTTP/1.1 100 C\r\nA: b\r\n\r\n" + CHUNKED])
def test_an_answer_is_the_same_however_its_bytes_are_cut(wire: bytes) -> None:
    cuts = [[wire[at : at + 1] for at in range(len(wire))]]
    cuts += [[wire[:at], wire[at:]] for at in range(len(wire))]
    for cut in cuts:
        found = received(*cut)
        assert isinstance(found, Received)
        assert found.complete
        assert (found.status, found.headers["x"], b"".join(found.pieces)) == (200, "y", b"hello, world")


@pytest.mark.spec("ORCH-3068-006")
@given(
    st.sampled_from([CHUNKED, COUNTED, zlib.compress(CHUNKED)]),
    st.lists(st.tuples(st.integers(0, 90), st.binary(max_size=5)), min_size=1, max_size=4),
)
def test_a_damaged_answer_is_an_answer_or_a_violation(wire: bytes, damages: list[tuple[int, bytes]]) -> None:
    for at, damage in damages:
        wire = wire[:at] + damage + wire[at + len(damage) :]
    found = received(wire[:40], wire[40:])

    assert isinstance(found, ProtocolViolation) or found.size <= len(wire)


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-006")
async def test_a_server_that_trickles_is_ended_by_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        await peer.gone()

    async with serving(script) as server:
        client = HttpClient(server.url, settings=HttpSettings(max_head_bytes=10_000))
        with pytest.raises(DeadlineExceeded):
            await client.request("GET", "/", timeout_s=0.05)
        await server.closed.get()
        await client.aclose()
