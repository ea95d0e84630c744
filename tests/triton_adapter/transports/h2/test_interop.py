"""What the interop cases of the grpc project and the tests of other clients ask of a client, said by our own peer."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from time import process_time
from urllib.parse import quote

import pytest

from adapter_api import AdapterError, DeadlineExceeded, PermissionDenied, StreamIncomplete
from tests.triton_adapter.transports.h2.peer import (
    ANSWER,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FINE,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
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
from triton_adapter.transports.h2 import patience
from triton_adapter.transports.h2.frames import LAST_STREAM, Violation
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-001")]

REQUEST = WireRequest("m", ())
GZIP = block((":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", "gzip"))
SPECIAL = "\t\nspaces around  and within\r\nBMP ☺, beyond 😈, and 100 %\t\n"


def sized(size: int) -> bytes:
    """Return a streamed reply of about so many bytes."""
    response = v2.ModelInferResponse(model_version="x" * size)
    return v2.ModelStreamInferResponse(infer_response=response).SerializeToString()


async def sizes(transport: H2Transport) -> list[int]:
    """Return the sizes of the replies of one stream."""
    call = await transport.stream(REQUEST, timeout_s=10)
    found: list[int] = []
    try:
        while replies := await call.read():
            found += [len(each.model_version) for each in replies]
    finally:
        call.cancel()
    return found


async def sent_within_the_windows(wire: Wire, stream: int, payload: bytes, padding: int) -> None:
    """Send DATA as the client's credit allows, each frame with so much padding."""
    room, at = 256 * 1024, 0
    while at < len(payload):
        part = payload[at : at + 1000]
        shot = bytes((padding,)) + part + bytes(padding)
        while room < len(shot):
            found = await wire.until(WINDOW_UPDATE)
            room += int.from_bytes(found.payload, "big") if found.stream == stream else 0
        wire.send(data(stream, shot, flags=PADDED))
        at, room = at + len(part), room - len(shot)


@pytest.mark.parametrize("padding", [0, 1, 255])
async def test_a_stream_of_padded_frames_comes_whole_though_the_padding_uses_up_the_windows(padding: int) -> None:
    wanted = [31415, 9, 2653, 300_000, 58979]

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream))
        await sent_within_the_windows(wire, stream, b"".join(message(sized(size)) for size in wanted), padding)
        wire.send(trailers(stream))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        assert await sizes(transport) == wanted


@pytest.mark.spec("ORCH-3072-005")
async def test_a_window_that_was_filled_with_padding_is_opened_for_who_reads() -> None:
    filled = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream))
        wire.send(data(stream, b"\xff" + bytes(255), flags=PADDED) * 1024)
        wire.send(answer(await wire.call()))  # whoever has this answer has had all of the padding
        filled.set()
        await wire.until(WINDOW_UPDATE)
        wire.send(data(stream, message(sized(3))), trailers(stream))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        assert await ask(transport)
        await filled.wait()
        assert [len(each.model_version) for each in await call.read()] == [3]
        call.cancel()


async def test_compressed_and_plain_messages_follow_each_other_in_one_stream() -> None:
    wanted = [31415, 92653, 0, 7]
    packed = [message(gzip.compress(sized(size)), compressed=True) for size in wanted]
    plain = [message(sized(size)) for size in wanted]
    mixed = packed[0] + plain[1] + packed[2] + plain[3]

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(head(stream, GZIP), *(data(stream, mixed[at : at + 700]) for at in range(0, len(mixed), 700)))
        wire.send(trailers(stream))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        assert await sizes(transport) == wanted


BIG = message(bytes(50_000))
CUT_SHORT: dict[str, Callable[[int], bytes]] = {
    "after the head": lambda s: head(s),
    "amid the data": lambda s: head(s) + data(s, BIG[:16000]),
    "after all of the data": lambda s: head(s) + data(s),
}


@pytest.mark.parametrize("code", [0, 2, 8, 11, 99])
@pytest.mark.parametrize("when", CUT_SHORT)
@pytest.mark.spec("ORCH-3072-002")
async def test_a_call_that_is_reset_is_never_a_success_and_costs_no_other(when: str, code: int) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        first, second = await wire.call(), await wire.call()
        wire.send(CUT_SHORT[when](first), frame(RST_STREAM, code.to_bytes(4, "big"), stream=first), answer(second))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        first, second = await asyncio.gather(ask(transport), ask(transport), return_exceptions=True)
        assert isinstance(first, AdapterError)
        assert second is True
        assert len(peer.wires) == 1


@pytest.mark.spec("ORCH-3072-002")
async def test_a_connection_that_is_not_safe_enough_is_told() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        wire.send(frame(RST_STREAM, b"\0\0\0\x0c", stream=await wire.call()))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        with pytest.raises(PermissionDenied, match="INADEQUATE_SECURITY"):
            await ask(transport)


async def test_a_goodbye_between_two_calls_is_not_noticed_by_their_caller() -> None:
    async def leaving(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(answer(stream), frame(GOAWAY, stream.to_bytes(4, "big") + bytes(4) + b"maintenance"))
        await wire.ending()

    async with asyncio.timeout(20), playing(leaving, leaving, honest) as peer, transport_to(peer) as transport:
        assert [await ask(transport) for _ in range(4)] == [True] * 4
        assert len(peer.wires) == 3


async def test_pings_between_all_frames_of_an_answer_are_all_answered() -> None:
    numbers = iter(range(100))

    def ping() -> bytes:
        return frame(PING, next(numbers).to_bytes(8, "big"))

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        parts = (head(stream), data(stream, BIG[:2]), data(stream, BIG[2:16000]), trailers(stream, block(("a", "b"))))
        wire.send(ping(), *(each + ping() for each in parts))
        wire.send(answer(await wire.call()), ping())
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        with pytest.raises(StreamIncomplete):
            await ask(transport)
        assert await ask(transport)
    answered = [int.from_bytes(each.payload, "big") for each in peer.wires[0].seen if each.kind == PING]
    assert answered == list(range(6))


STATUSES = {"16 codes": [str(code) for code in range(1, 17)], "no codes": ["17", "99", "-1", "x", "", "1.0", "016"]}


@pytest.mark.parametrize("number", [each for group in STATUSES.values() for each in group])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.spec("ORCH-3072-002")
async def test_each_status_but_0_is_an_error_with_the_servers_words(number: str, alone: bool) -> None:
    end = block(("grpc-status", number), ("grpc-message", quote(SPECIAL, safe=" ,&")))

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        wire.send(trailers(stream, ANSWER + end) if alone else head(stream) + data(stream) + trailers(stream, end))
        wire.send(answer(await wire.call()))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        with pytest.raises(AdapterError) as caught:
            await ask(transport)
        assert await ask(transport)
    if number != "4":  # a deadline is told in our words
        assert "spaces around and within BMP ☺, beyond 😈, and 100 %" in str(caught.value)


@pytest.mark.spec("ORCH-3072-002")
async def test_a_cut_answer_is_no_success_however_the_status_0_is_written() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        for said in ("0", "00"):
            stream = await wire.call()
            wire.send(
                head(stream), data(stream), data(stream, BIG[:900]), trailers(stream, block(("grpc-status", said)))
            )
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        for _ in range(2):
            with pytest.raises(StreamIncomplete, match="middle of a message"):
                await ask(transport)


async def test_words_that_are_not_percent_encoded_are_read_as_utf8() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        said = "größer ☺".encode().decode("latin-1")
        wire.send(trailers(await wire.call(), ANSWER + block(("grpc-status", "3"), ("grpc-message", said))))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        with pytest.raises(AdapterError, match="größer ☺"):
            await ask(transport)


async def test_metadata_of_the_servers_is_passed_over_also_where_it_is_long() -> None:
    more = block(("x-echo-initial", "a value"), ("x-echo-trailing-bin", "q6ur"), ("a", ""), ("a", "b"))
    # A literal of 60,000 bytes: RFC 7541, 5.1.
    size = 60_000 - 127
    long = b"\x00\x01x\x7f" + bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14)) + b"X" * 60_000
    end = FINE + long

    async def script(wire: Wire) -> None:
        await wire.greet()
        while True:
            stream = await wire.call()
            wire.send(head(stream, ANSWER + more), data(stream), head(stream, end[:16000], flags=END_STREAM))
            parts = [end[at : at + 16000] for at in range(16000, len(end), 16000)]
            flags = [0] * (len(parts) - 1) + [END_HEADERS]
            wire.send(*(frame(CONTINUATION, part, flags=flag, stream=stream)
                        for part, flag in zip(parts, flags, strict=True)))  # fmt: skip

    async def quiet(wire: Wire) -> None:
        try:
            await script(wire)
        except AssertionError:
            return

    async with asyncio.timeout(20), playing(quiet) as peer, transport_to(peer) as transport:
        assert [await ask(transport), await ask(transport)] == [True, True]
        assert len(peer.wires) == 1


async def test_a_call_that_is_cancelled_before_its_body_may_go_sends_none_of_it() -> None:
    begun = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.greet(settings(s4=0))
        first = (await wire.until(HEADERS)).stream
        begun.set()
        reset = await wire.until(RST_STREAM)
        assert (reset.stream, reset.payload) == (first, b"\0\0\0\x08")
        wire.send(settings(s4=65_535))
        wire.send(answer(await wire.call()))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        task = asyncio.create_task(ask(transport))
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert await ask(transport)
    assert [each.stream for each in peer.wires[0].seen if each.kind == DATA] == [3]


@pytest.mark.spec("ORCH-3072-005")
async def test_a_window_that_shrinks_amid_a_body_is_kept_to_also_below_zero() -> None:
    got = 0

    async def script(wire: Wire) -> None:
        nonlocal got
        await wire.greet(settings(s4=30_000))
        stream = (await wire.until(HEADERS)).stream
        while got < 30_000:
            got += len((await wire.until(DATA)).payload)
        assert got == 30_000
        wire.send(settings(s4=10_000))  # 20,000 below zero
        wire.send(frame(WINDOW_UPDATE, (20_001).to_bytes(4, "big"), stream=stream))
        got += len((await wire.until(DATA)).payload)
        assert got == 30_001
        credit = (400_000).to_bytes(4, "big")
        wire.send(frame(WINDOW_UPDATE, credit, stream=stream) + frame(WINDOW_UPDATE, credit))
        while not (found := await wire.until(DATA)).flags & END_STREAM:
            got += len(found.payload)
        wire.send(head(stream), trailers(stream, block(("grpc-status", "12"))))
        await wire.ending()

    request = WireRequest("m", (), parameters={"long": "x" * 200_000})
    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        with pytest.raises(AdapterError):
            await transport.infer(request, timeout_s=10)


async def test_an_answer_before_the_body_was_heard_stops_the_body_and_nothing_else() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = (await wire.until(HEADERS)).stream
        wire.send(trailers(stream, ANSWER + block(("grpc-status", "8"), ("grpc-message", "too much"))))
        assert (await wire.until(RST_STREAM)).stream == stream
        credit = frame(WINDOW_UPDATE, (1 << 20).to_bytes(4, "big"))
        wire.send(credit, frame(WINDOW_UPDATE, (1 << 20).to_bytes(4, "big"), stream=stream))
        wire.send(answer(await wire.call()))
        assert all(each.stream != stream for each in await wire.ending())

    request = WireRequest("m", (), parameters={"long": "x" * 2_000_000})
    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        with pytest.raises(AdapterError, match="too much"):
            await transport.infer(request, timeout_s=10)
        assert await ask(transport)
        assert len(peer.wires) == 1


async def test_a_connection_whose_numbers_are_used_up_is_changed_for_another() -> None:
    async with asyncio.timeout(20), playing(honest) as peer, transport_to(peer) as transport:
        assert await ask(transport)
        assert transport._channel is not None
        current = transport._channel._current
        assert current is not None
        current._streams._next = LAST_STREAM - 2
        assert await asyncio.gather(*(ask(transport) for _ in range(8))) == [True] * 8
        assert len(peer.wires) == 2
    assert max(each.stream for each in peer.wires[0].seen) == LAST_STREAM


@pytest.mark.spec("ORCH-3072-004")
async def test_thousands_of_calls_share_a_connection_that_takes_few_at_once_and_fewer_later() -> None:
    at_once: list[int] = []

    async def script(wire: Wire) -> None:
        await wire.greet(settings(s3=100))
        open_: list[int] = []
        while (found := await wire.frame()) is not None:
            if found.kind == DATA and found.flags & END_STREAM:
                open_.append(found.stream)
                at_once.append(len(open_))
                if len(at_once) == 500:
                    wire.send(settings(s3=7))
                asyncio.get_running_loop().call_later(0.001, lambda: wire.send(answer(open_.pop(0))))

    async with asyncio.timeout(30), playing(script) as peer, transport_to(peer) as transport:
        assert await asyncio.gather(*(ask(transport, 20) for _ in range(1000))) == [True] * 1000
        assert len(peer.wires) == 1
    assert max(at_once) == 100
    assert max(at_once[700:]) == 7


@pytest.mark.spec("ORCH-3072-005")
async def test_what_came_of_cancelled_streams_is_given_back_to_the_window_of_the_connection() -> None:
    rounds = 80
    shot = message(sized(15_900))

    async def script(wire: Wire) -> None:
        await wire.greet()
        for _ in range(rounds):
            stream = await wire.call()
            wire.send(head(stream), *(data(stream, shot) for _ in range(256 * 1024 // len(shot))))
            await wire.until(RST_STREAM)
        wire.send(answer(await wire.call()))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        for _ in range(rounds):
            call = await transport.stream(REQUEST, timeout_s=10)
            await call.read()
            call.cancel()
        assert await ask(transport)
    given = sum(int.from_bytes(each.payload, "big") for each in peer.wires[0].seen
                if each.kind == WINDOW_UPDATE and each.stream == 0)  # fmt: skip
    assert 65_535 + given > rounds * 256_000, "the peer of a client that kept it to itself would be stuck by now"


LATE: dict[str, Callable[[int], bytes]] = {
    "malformed trailers": lambda s: trailers(s, block(("Grpc", "x"))),
    "malformed trailers in pieces": lambda s: (
        head(s, b"", flags=0) + frame(CONTINUATION, block(("Grpc", "x")), flags=END_HEADERS, stream=s)
    ),
    "credit of nothing": lambda s: frame(WINDOW_UPDATE, bytes(4), stream=s),
    "a priority of 4 bytes": lambda s: frame(2, bytes(4), stream=s),
    "no gRPC": lambda s: data(s, b"\xff" * 99),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.spec("ORCH-3072-008")
async def test_what_comes_malformed_of_a_cancelled_call_costs_no_other(name: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        first, second = await wire.call(), await wire.call()
        wire.send(head(first), data(first, message(sized(1))))
        await wire.until(RST_STREAM)
        wire.send(LATE[name](first), answer(second))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        other = asyncio.create_task(ask(transport))
        await call.read()
        call.cancel()
        assert await other


@pytest.mark.spec("ORCH-3072-008")
async def test_a_large_compressed_message_that_cannot_be_inflated_costs_its_call_alone() -> None:
    wrong = message(b"\0" * 5000, compressed=True)

    async def script(wire: Wire) -> None:
        await wire.greet()
        first, second = await wire.call(), await wire.call()
        wire.send(head(first, GZIP), *(data(first, wrong[at : at + 900]) for at in range(0, len(wrong), 900)))
        assert (await wire.until(RST_STREAM)).stream == first
        wire.send(answer(second))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        first, second = await asyncio.gather(ask(transport), ask(transport), return_exceptions=True)
        assert "inflated" in str(first)
        assert second is True


@pytest.mark.spec("ORCH-3072-009")
async def test_a_peer_that_reads_nothing_is_told_no_more_than_so_much_and_takes_calls_again_once_it_reads() -> None:
    reads = asyncio.Event()

    async def deaf(wire: Wire) -> None:
        await wire.greet(settings(s4=2**30) + frame(WINDOW_UPDATE, (2**30).to_bytes(4, "big")))
        await reads.wait()
        while (found := await wire.frame()) is not None:
            if found.kind == DATA and found.flags & END_STREAM:
                wire.send(answer(found.stream))

    large = WireRequest("m", (), parameters={"long": "x" * 20_000_000})
    async with asyncio.timeout(30), playing(deaf) as peer, transport_to(peer) as transport:
        with pytest.raises(DeadlineExceeded):
            await transport.infer(large, timeout_s=0.2)  # more than fits on the way
        for _ in range(5):
            told = await asyncio.gather(*(ask(transport, 0.02) for _ in range(500)), return_exceptions=True)
            assert {type(each) for each in told} == {DeadlineExceeded}
        assert "reads nothing" in str(told[-1])
        assert transport._channel is not None
        current = transport._channel._current
        assert current is not None
        assert sum(map(len, current._sender._unsent)) < 300_000
        reads.set()
        assert await ask(transport)
        assert len(peer.wires) == 1


@pytest.mark.spec("ORCH-3072-003")
def test_frames_that_move_nothing_are_a_flood_only_when_they_come_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(patience, "monotonic", lambda: now)
    patient = patience.Patience()
    for _ in range(100_000):
        now += 1.0
        patient.idle()

    def flood() -> None:
        nonlocal now
        for _ in range(20_001):
            now += 0.001
            patient.idle()

    with pytest.raises(Violation):
        flood()


@pytest.mark.spec("ORCH-3072-003")
async def test_empty_frames_between_tokens_are_no_flood_also_where_all_come_in_one_read() -> None:
    tokens = 12_000

    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        assert transport._channel is not None
        current = transport._channel._current
        assert current is not None
        current.data_received(head(1) + (data(1, message(sized(0))) + data(1, b"")) * tokens)
        assert len(await call.read()) == tokens
        call.cancel()
        assert not current.draining


FLOODS = {
    "windows of 0": settings(s4=0) * 5000,
    "windows of 0 in large frames": frame(4, b"\0\x04\0\0\0\0" * 2700) * 4,
    "credit of 1": frame(WINDOW_UPDATE, b"\0\0\0\1") * 5000,
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.spec("ORCH-3072-003")
async def test_what_moves_nothing_costs_the_same_however_many_bodies_wait(name: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet(settings(s4=0) + frame(WINDOW_UPDATE, (2**30).to_bytes(4, "big")))
        await wire.ending()

    async def cost(bodies: int) -> float:
        request = WireRequest("m", (), parameters={"long": "x" * 20_000})
        async with playing(script) as peer, transport_to(peer) as transport:
            calls = [await transport.stream(request, timeout_s=30) for _ in range(bodies)]
            assert transport._channel is not None
            current = transport._channel._current
            assert current is not None
            began = process_time()
            current.data_received(FLOODS[name])
            took = process_time() - began
            assert not current.draining
            for call in calls:
                call.cancel()
            return took

    async with asyncio.timeout(30):
        few, many = min([await cost(1) for _ in range(3)]), min([await cost(500) for _ in range(3)])
    assert many < 10 * few, "500 times the bodies"
