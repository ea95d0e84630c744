"""Calls over our own HTTP/2: how they end, what they wait for, and what is left of them."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Callable

import pytest
import trustme

from adapter_api import (
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidRequest,
    ProtocolViolation,
    StreamIncomplete,
)
from tests.triton_adapter.transports.h2.peer import (
    ACK,
    ANSWER,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LIVE,
    PADDED,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Script,
    Wire,
    answer,
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
from triton_adapter.schema import Reply, Run
from triton_adapter.transports.h2.transport import H2Stream, H2Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-001")]

REQUEST = WireRequest("m", ())
GZIP = block((":status", "200"), ("content-type", "application/grpc+proto"), ("grpc-encoding", "gzip"))
DEFLATE = block((":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", "deflate"))


def reply(number: int) -> bytes:
    """Return a streamed reply that can be told from others."""
    return v2.ModelStreamInferResponse(infer_response=v2.ModelInferResponse(id=str(number))).SerializeToString()


async def read_all(call: H2Stream) -> int:
    """Read to the end; return how many replies there were."""
    count = 0
    while replies := await call.read():
        count += len(replies)
    return count


async def rows(transport: H2Transport) -> int:
    call = await transport.stream(REQUEST, timeout_s=5)
    try:
        return await read_all(call)
    finally:
        call.cancel()


def once(made: Callable[[int], bytes]) -> Script:
    async def script(wire: Wire) -> None:
        await wire.greet()
        while True:
            wire.send(made(await wire.call()))

    async def quiet(wire: Wire) -> None:
        try:
            await script(wire)
        except AssertionError:
            return

    return quiet


FINE: dict[str, Callable[[int], bytes]] = {
    "plainly": answer,
    "with padding": lambda s: (
        head(s, b"\x03" + ANSWER + b"\0\0\0", flags=END_HEADERS | PADDED)
        + data(s, b"\x04" + message() + bytes(4), flags=PADDED) + trailers(s)
    ),
    "with a priority": lambda s: head(s, bytes(5) + ANSWER, flags=END_HEADERS | 0x20) + data(s) + trailers(s),
    "in continuations": lambda s: (
        head(s, ANSWER[:3], flags=0) + frame(CONTINUATION, b"", stream=s) + frame(CONTINUATION, ANSWER[3:9], stream=s)
        + frame(CONTINUATION, ANSWER[9:], flags=END_HEADERS, stream=s) + data(s) + trailers(s)
    ),
    "in one byte a frame": lambda s: (
        head(s) + b"".join(data(s, message()[at : at + 1]) for at in range(len(message()))) + trailers(s)
    ),
    "with unknown frames between": lambda s: (
        frame(99, b"x" * 99, flags=255, stream=s + 2) + head(s) + frame(12) + data(s) + trailers(s) + frame(200, b"?")
    ),
    "with settings between": lambda s: settings(s9=1, s3=7) + head(s) + settings(s4=99_999) + data(s) + trailers(s),
    "with the reserved bit set": lambda s: b"".join(
        bytes((each[0], each[1], each[2], each[3], each[4], each[5] | 0x80)) + each[6:]
        for each in (head(s), data(s), trailers(s))
    ),
    "after an interim answer": lambda s: head(s, block((":status", "103"), ("link", "x"))) + answer(s),
    "with a content-length": lambda s: head(s, ANSWER + block(("content-length", "7"))) + data(s) + trailers(s),
    "with a content-length beside padding": lambda s: (
        head(s, ANSWER + block(("content-length", "7")))
        + data(s, b"\x04" + message() + bytes(4), flags=PADDED) + data(s, b"\x09" + bytes(9), flags=PADDED)
        + trailers(s)
    ),
    "with gzip": lambda s: head(s, GZIP) + data(s, message(gzip.compress(LIVE), compressed=True)) + trailers(s),
    "with deflate": lambda s: head(s, DEFLATE) + data(s, message(zlib.compress(LIVE), compressed=True)) + trailers(s),
    "with an encoding that is not used": lambda s: head(s, GZIP) + data(s) + trailers(s),
    "with the last data and the end apart": lambda s: head(s) + data(s) + data(s, b"") + trailers(s),
    "with a reset after the end": lambda s: answer(s) + frame(RST_STREAM, bytes(4), stream=s),
    "with an empty reset of the table": lambda s: head(s, b"\x20" + ANSWER) + data(s) + trailers(s),
}  # fmt: skip


@pytest.mark.parametrize("how", FINE)
async def test_an_answer_is_understood_however_it_is_cut(how: str) -> None:
    async with asyncio.timeout(20), playing(once(FINE[how])) as peer, transport_to(peer) as transport:
        assert [await ask(transport), await ask(transport)] == [True, True]
        assert len(peer.wires) == 1


@pytest.mark.parametrize("how", ["plainly", "with padding", "in continuations", "with gzip"])
async def test_an_answer_is_understood_wherever_the_socket_splits_it(how: str) -> None:
    whole = FINE[how](1)
    splits = iter(range(1, len(whole)))

    async def script(wire: Wire) -> None:
        at = next(splits)
        await wire.greet()
        await wire.call()
        wire.send(whole[:at])
        for _ in range(3):
            await asyncio.sleep(0)  # the client reads in the meantime
        wire.send(whole[at:])
        await wire.ending()

    async with asyncio.timeout(30), playing(script) as peer:
        for _ in range(1, len(whole)):
            async with transport_to(peer) as transport:
                assert await ask(transport)


async def test_an_answer_is_understood_byte_by_byte() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        for byte in answer(await wire.call()):
            wire.send(bytes((byte,)))
            await asyncio.sleep(0)
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        assert await ask(transport)


BOMB = message(gzip.compress(bytes(2**21)), compressed=True)
ENDINGS: dict[str, tuple[type[AdapterError], str, Callable[[int], bytes]]] = {
    "a status without an answer": (
        InvalidRequest, "no such thing: ü, 100%",
        lambda s: trailers(s, ANSWER + block(("grpc-status", "3"), ("grpc-message", "no such thing: %C3%BC, 100%"))),
    ),
    "a status in a head that an empty frame ends": (
        InvalidRequest, "no such thing",
        lambda s: (
            head(s, ANSWER + block(("grpc-status", "3"), ("grpc-message", "no such thing")))
            + data(s, b"", flags=END_STREAM)
        ),
    ),
    "a status in the head of a message": (
        StreamIncomplete, "without a status",
        lambda s: head(s, ANSWER + block(("grpc-status", "0"))) + data(s, flags=END_STREAM),
    ),
    "no status": (StreamIncomplete, "without a status", lambda s: head(s) + data(s, flags=END_STREAM)),
    "trailers without a status": (StreamIncomplete, "without a status",
                                  lambda s: head(s) + data(s) + trailers(s, block(("a", "b")))),
    "the middle of a message": (
        StreamIncomplete, "middle of a message", lambda s: head(s) + data(s, message()[:4]) + trailers(s),
    ),
    "two answers": (ProtocolViolation, "2 answers", lambda s: head(s) + data(s) * 2 + trailers(s)),
    "no answer": (ProtocolViolation, "0 answers", lambda s: head(s) + trailers(s)),
    "a web page": (ProtocolViolation, "no gRPC", lambda s: head(s, block((":status", "200"), ("content-type", "a/b")))),
    "a reset": (AdapterError, "reset the call", lambda s: frame(RST_STREAM, b"\0\0\0\2", stream=s)),
    "a reset without a reason": (StreamIncomplete, "without a status", lambda s: frame(RST_STREAM, bytes(4), stream=s)),
    "a refusal": (ConnectFailed, "REFUSED_STREAM", lambda s: frame(RST_STREAM, b"\0\0\0\7", stream=s)),
    "a message above the limit": (
        InvalidRequest, "max_message_bytes", lambda s: head(s) + data(s, b"\0\x7f\xff\xff\xff"),
    ),
    "a bomb of gzip": (
        InvalidRequest, "max_message_bytes",
        lambda s: head(s, GZIP) + data(s, message(gzip.compress(bytes(2**21)), compressed=True)) + trailers(s),
    ),
    "a bomb of gzip in pieces": (
        InvalidRequest, "max_message_bytes",
        lambda s: head(s, GZIP) + b"".join(data(s, BOMB[at : at + 99]) for at in range(0, len(BOMB), 99)) + trailers(s),
    ),
    "gzip that is cut": (
        ProtocolViolation, "cut off",
        lambda s: head(s, GZIP) + data(s, message(gzip.compress(LIVE)[:-3], compressed=True)) + trailers(s),
    ),
    "no gzip": (
        ProtocolViolation, "inflated", lambda s: head(s, GZIP) + data(s, message(compressed=True)) + trailers(s),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.spec("ORCH-3072-002")
async def test_each_way_to_end_is_an_error_of_its_own(name: str) -> None:
    kind, said, made = ENDINGS[name]
    calls = 0

    def first_bad(stream: int) -> bytes:
        nonlocal calls
        calls += 1
        return made(stream) if calls == 1 else answer(stream)

    async with asyncio.timeout(20), playing(once(first_bad)) as peer:
        async with transport_to(peer, max_message_bytes=2**20) as transport:
            with pytest.raises(kind, match=said):
                await ask(transport)
            assert await ask(transport)
            assert len(peer.wires) == 1, "the connection goes on"


async def test_a_goodbye_moves_calls_to_a_new_connection_and_lets_those_finish_that_it_names() -> None:
    async def leaving(wire: Wire) -> None:
        await wire.greet()
        first, second = await wire.call(), await wire.call()
        wire.send(frame(GOAWAY, first.to_bytes(4, "big") + bytes(4)))
        await asyncio.sleep(0)
        wire.send(answer(first))
        assert second > first
        assert (await wire.ending())[-1].kind == GOAWAY, "we say goodbye and close"

    async with asyncio.timeout(20), playing(leaving, honest) as peer, transport_to(peer) as transport:
        first, second = await asyncio.gather(ask(transport), ask(transport), return_exceptions=True)
        assert (first, type(second)) == (True, ConnectFailed), "the second was not processed, so it may be sent again"
        assert await ask(transport)
        assert len(peer.wires) == 2


async def test_a_server_that_takes_leave_of_each_connection_is_not_asked_without_end() -> None:
    async def leaving(wire: Wire) -> None:
        await wire.greet(settings() + frame(GOAWAY, bytes(8)))
        await wire.ending()

    async with asyncio.timeout(20), playing(leaving) as peer, transport_to(peer) as transport:
        with pytest.raises(ConnectFailed, match="takes leave"):
            await ask(transport)
        assert len(peer.wires) <= 4


@pytest.mark.parametrize("most", [0, 1, 3])
@pytest.mark.spec("ORCH-3072-004")
async def test_calls_beyond_what_the_peer_takes_at_once_wait_in_the_order_in_which_they_came(most: int) -> None:
    served: list[int] = []
    at_once = 0

    async def narrow(wire: Wire) -> None:
        nonlocal at_once
        await wire.greet(settings(s3=most))
        if not most:
            await asyncio.sleep(0.05)
            wire.send(settings(s3=2))
        open_: list[int] = []
        while (found := await wire.frame()) is not None:
            if found.kind == DATA and found.flags & END_STREAM:
                open_.append(found.stream)
                at_once = max(at_once, len(open_))
                asyncio.get_running_loop().call_later(0.002, lambda: wire.send(answer(open_.pop(0))))

    async def numbered(transport: H2Transport, number: int) -> None:
        await ask(transport)
        served.append(number)

    async with asyncio.timeout(20), playing(narrow) as peer, transport_to(peer) as transport:
        await asyncio.gather(*(numbered(transport, number) for number in range(20)))
    assert served == sorted(served)
    assert at_once == (most or 2)


@pytest.mark.spec("ORCH-3072-004")
async def test_a_place_in_the_queue_ends_with_its_deadline_or_its_caller_and_holds_up_nobody() -> None:
    sent, release = asyncio.Event(), asyncio.Event()

    async def narrow(wire: Wire) -> None:
        await wire.greet(settings(s3=1))
        first = await wire.call()
        sent.set()
        await release.wait()
        wire.send(answer(first))
        while True:
            found = await wire.frame()
            if found is None:
                return
            if found.kind == DATA:
                wire.send(answer(found.stream))

    async with asyncio.timeout(20), playing(narrow) as peer, transport_to(peer) as transport:
        first = asyncio.create_task(ask(transport))
        await sent.wait()
        gone = asyncio.create_task(ask(transport))
        late = asyncio.create_task(ask(transport, timeout_s=0.02))
        last = [asyncio.create_task(ask(transport)) for _ in range(3)]
        with pytest.raises(DeadlineExceeded, match="no room"):
            await late
        gone.cancel()
        await asyncio.wait({gone})
        release.set()
        assert await asyncio.gather(first, *last) == [True] * 4
        assert gone.cancelled()


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancel_after_any_step_leaves_the_connection_as_it_should_be(steps: int) -> None:
    async with asyncio.timeout(20), playing(honest) as peer, transport_to(peer) as transport:
        await ask(transport)
        for _ in range(3):
            task = asyncio.create_task(ask(transport))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        assert await ask(transport)
        assert len(peer.wires) == 1
        assert transport._channel is not None
        current = transport._channel._current
        assert current is not None
        assert current.calls == {}


async def test_a_deadline_goes_with_the_call_and_holds_against_a_silent_peer() -> None:
    seen: list[bytes] = []

    async def silent(wire: Wire) -> None:
        await wire.greet()
        wire.send(answer(await wire.call()))
        seen.append((await wire.until(HEADERS)).payload)
        assert (await wire.until(RST_STREAM)).payload == b"\0\0\0\x08", "CANCEL"
        await wire.ending()

    async with asyncio.timeout(20), playing(silent) as peer, transport_to(peer) as transport:
        assert await ask(transport)  # else making the connection takes a part of the time
        with pytest.raises(DeadlineExceeded):
            await ask(transport, timeout_s=0.05)
    assert b"grpc-timeout" in seen[0]


@pytest.mark.spec("ORCH-3072-005")
async def test_a_large_request_goes_out_as_the_windows_allow() -> None:
    size, window = 200_000, 0
    got = bytearray()

    async def narrow(wire: Wire) -> None:
        nonlocal window
        await wire.greet(settings(s4=1))
        await wire.until(HEADERS)
        while True:
            found = await wire.until(DATA)
            assert len(found.payload) <= (1 if not got else 7000)
            got.extend(found.payload)
            if found.flags & END_STREAM:
                break
            credit = frame(WINDOW_UPDATE, (7000).to_bytes(4, "big"))
            wire.send(credit, frame(WINDOW_UPDATE, (7000).to_bytes(4, "big"), stream=found.stream))
        wire.send(head(found.stream), trailers(found.stream, block(("grpc-status", "12"))))
        await wire.ending()

    request = WireRequest("m", (), parameters={"long": "x" * size})
    async with asyncio.timeout(20), playing(narrow) as peer, transport_to(peer) as transport:
        with pytest.raises(AdapterError):
            await transport.infer(request, timeout_s=10)
    sent = v2.ModelInferRequest.FromString(bytes(got[5:]))
    assert sent.parameters["long"].string_param == "x" * size


@pytest.mark.spec("ORCH-3072-005")
async def test_a_consumer_that_stalls_is_owed_its_window_and_holds_up_no_other() -> None:
    sent = 0

    async def cannon(wire: Wire) -> None:
        nonlocal sent
        await wire.greet()
        stream, room = await wire.call(), 256 * 1024
        wire.send(head(stream))
        shot = data(stream, message(reply(7) * 100))
        while room >= len(shot) - 9:
            wire.send(shot)
            room -= len(shot) - 9
            sent += 1
        other = await wire.call()
        wire.send(answer(other))
        granted = await wire.until(WINDOW_UPDATE)
        assert granted.stream == stream, "only now, as the first was read"
        wire.send(trailers(stream))
        await wire.ending()

    async with asyncio.timeout(20), playing(cannon) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        assert await ask(transport)
        assert [each for each in peer.wires[0].seen if each.kind == WINDOW_UPDATE and each.stream] == []
        assert await read_all(call) == sent


@pytest.mark.spec("ORCH-3072-005")
async def test_a_message_larger_than_the_window_comes_whole() -> None:
    large = message(bytes(3 * 2**20))

    async def generous(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream))
        room, at = 256 * 1024, 0
        while at < len(large):
            part = large[at : at + min(16384, room)]
            if part:
                wire.send(data(stream, part))
                at, room = at + len(part), room - len(part)
            else:
                found = await wire.until(WINDOW_UPDATE)
                room += int.from_bytes(found.payload, "big") if found.stream else 0
        wire.send(trailers(stream))
        await wire.ending()

    async with asyncio.timeout(20), playing(generous) as peer, transport_to(peer) as transport:
        await transport.stream(REQUEST, timeout_s=10)
        call = next(iter(transport._channel._current.calls.values()))  # type: ignore[union-attr]
        assert [len(each) for each in await call.more()] == [3 * 2**20]


@pytest.mark.spec("ORCH-3072-003")
async def test_late_data_of_calls_that_were_cancelled_is_no_fault() -> None:
    async def late(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream), data(stream, message(reply(1))))
        await wire.until(RST_STREAM)
        small = data(stream, message(b""))
        wire.send(small * 12_000, trailers(stream))
        wire.send(answer(await wire.call()))
        await wire.ending()

    async with asyncio.timeout(20), playing(late) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        await call.read()
        call.cancel()
        assert await ask(transport)


async def test_a_ping_is_answered_and_none_is_sent() -> None:
    async def pinging(wire: Wire) -> None:
        await wire.greet(settings() + frame(PING, b"12345678"))
        assert await wire.until(SETTINGS, flags=ACK)
        assert (await wire.until(PING)).payload == b"12345678"
        wire.send(answer(await wire.call()))
        await wire.ending()

    async with asyncio.timeout(20), playing(pinging) as peer, transport_to(peer) as transport:
        assert await ask(transport)
    assert [each.flags for each in peer.wires[0].seen if each.kind == PING] == [ACK]


@pytest.mark.parametrize("told", [b"", frame(GOAWAY, bytes(4) + b"\0\0\0\x0b" + b"too_many_pings")])
async def test_a_connection_that_ends_ends_its_calls_and_the_next_call_makes_another(told: bytes) -> None:
    async def leaving(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream), data(stream, message(reply(1))))
        if told:
            wire.send(frame(GOAWAY, stream.to_bytes(4, "big") + told[13:]))
        await wire.writer.drain()

    async with asyncio.timeout(20), playing(leaving, honest) as peer, transport_to(peer) as transport:
        with pytest.raises(ConnectionLost):
            await rows(transport)
        assert await ask(transport)


async def test_a_peer_that_stalls_while_tls_begins_costs_the_time_for_connecting() -> None:
    async def stalls(wire: Wire) -> None:
        await wire.reader.read()

    async with asyncio.timeout(20), playing(stalls, tls=False) as peer:
        async with transport_to(peer, tls={}, connect_timeout_s=0.1) as transport:
            with pytest.raises(DeadlineExceeded) as caught:
                await ask(transport)
    assert caught.value.stage == "connect"


async def test_a_tls_server_without_http2_is_told(tmp_path: object) -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    with ca.cert_pem.tempfile() as authority:
        async with asyncio.timeout(20), playing(honest, tls=context) as peer:
            async with transport_to(peer, tls={"ca_file": authority}) as transport:
                with pytest.raises(ConnectFailed):
                    await ask(transport)


def text_reply(text: bytes) -> bytes:
    response = v2.ModelInferResponse(model_name="m", id="j")
    response.outputs.add(name="text_output", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
    return v2.ModelStreamInferResponse(infer_response=response).SerializeToString()


@pytest.mark.spec("ORCH-3072-007")
async def test_all_that_has_come_is_read_at_once() -> None:
    texts = [b"tok%d" % number for number in range(9)]

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream) + b"".join(data(stream, message(text_reply(text))) for text in texts))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        while (found := call.take_runs()) is None:
            await call.arrival()
        call.cancel()

    assert isinstance(found[0], Reply)
    first = [each.outputs["text_output"].data[4:] for each in found if isinstance(each, Reply)]
    burst = [each.texts for each in found if isinstance(each, Run)]
    assert [*first, *burst[0]] == texts
    assert len(burst) == 1
