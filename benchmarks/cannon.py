"""A server that shoots ready-made tokens, so that a benchmark measures the client and little else.

It speaks as much HTTP/2 and gRPC as Triton's clients need, keeps to their flow control, and poses as two models of the
vLLM backend: `text` answers with the text only, as before Triton 24.12; `counted` puts the finish reason and the token
counts into every reply for a client that asks, as one may since. How to shoot is in the prompt: `cannon 200 64 0` is
200 tokens, 64 per socket write (of whichever streams are at it), without a pause; a pause in ms comes after each token
of a stream. `stamped 150 20 1` is 150 tokens, one per 20 ms of the clock, whose text is the moment at which each is
sent (`time.monotonic_ns`, in hexadecimal digits): those of all streams at the same moment, as from an engine that works
on them together, or, with 8 for the 1, at 8 moments that lie evenly in those 20 ms.

`python benchmarks/cannon.py` prints its port and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import re
import struct
import sys
import time
from collections import deque
from functools import cache

from triton_adapter.testing.signatures import config_of
from triton_adapter.wire import v2_pb2 as v2

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_PREFACE = 24
_ORDER = re.compile(rb"(cannon|stamped) (\d+) (\d+) (\d+)")
_STAMP = "0" * 16
_STAMPED_BURST = 64
# `:status: 200` and `content-type: application/grpc`; `grpc-status: 0`. Literals: no table to keep.
_RESPONSE_HEADERS = b"\x88\x0f\x10\x10application/grpc"
_TRAILERS = b"\x00\x0bgrpc-status\x010"
# No header table, so that every request spells out its path; and room for whatever comes in.
_GREETING = [(SETTINGS, 0, 0, struct.pack(">HI", 1, 0)), (WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))]
_HIGH_WATER = 1 << 16


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def grpc_message(payload: bytes) -> bytes:
    return struct.pack(">BI", 0, len(payload)) + payload


def text_of(index: int) -> str:
    """Return the text of a token: all are different, so that a benchmark can check what it got."""
    return f"tok{index} "


@cache
def tokens_of(model: str, count: int) -> list[bytes]:
    """Return the stream messages of a task, ready to send."""
    return [grpc_message(_reply(model, index, final=index == count - 1)) for index in range(count)]


@cache
def stamped_tokens_of(model: str, count: int) -> list[bytes]:
    """Return the same with room for a moment in place of each text."""
    return [grpc_message(_reply(model, index, _STAMP, final=index == count - 1)) for index in range(count)]


def stamped(message: bytes) -> bytes:
    """Return a message with the moment in its place."""
    return message.replace(_STAMP.encode(), b"%016x" % time.monotonic_ns(), 1)


def _reply(model: str, index: int, text: str = "", *, final: bool) -> bytes:
    response = v2.ModelInferResponse(model_name=model, model_version="1")
    response.parameters["triton_final_response"].bool_param = final
    outputs = [("text_output", "BYTES", _framed(text or text_of(index)))]
    if model == "counted":
        outputs += [
            ("finish_reason", "BYTES", _framed("length" if final else "None")),
            ("num_input_tokens", "UINT32", struct.pack("<I", 4)),
            ("num_output_tokens", "UINT32", struct.pack("<I", 1)),
        ]
    for name, datatype, raw in outputs:
        response.outputs.add(name=name, datatype=datatype, shape=[1])
        response.raw_output_contents.append(raw)
    return v2.ModelStreamInferResponse(infer_response=response).SerializeToString()


def _framed(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()


def _answer(path: bytes, request: bytes) -> bytes:
    """Return the message that answers a control call."""
    if b"/ModelConfig" in path:
        return v2.ModelConfigResponse(config=_config(request)).SerializeToString()
    if b"/ModelMetadata" in path:
        name = v2.ModelMetadataRequest.FromString(request).name
        return v2.ModelMetadataResponse(name=name, versions=["1"], platform="vllm").SerializeToString()
    if b"/ServerMetadata" in path:
        return v2.ServerMetadataResponse(name="cannon", version="1").SerializeToString()
    raise ValueError(f"the cannon has no {path!r}")


def _config(request: bytes) -> v2.ModelConfig:
    name = v2.ModelConfigRequest.FromString(request).name
    signature = "vllm" if name == "counted" else "vllm_before_24_12"
    return config_of(signature, name, decoupled=True, max_batch_size=0, seed="seed")


def _next_moment(now: float, every_s: float, share: float) -> float:
    """Return the first moment from now on that lies at this share of a period."""
    return (now // every_s + 1 + share) * every_s


class Call:
    """One request, and what is left to send of its answer."""

    def __init__(self, stream: int, window: int, path: bytes) -> None:
        self.stream = stream
        self.window = window
        self.path = path
        self.received = bytearray()
        self.messages: list[bytes] = []
        self.sent = 0
        self.pause_s = 0.0
        self.due: float | None = None
        """When the next token is to go out, by the clock of the event loop; `None` where that does not matter."""


class Cannon(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._greeted = False
        self._calls: dict[int, Call] = {}
        self._firing: deque[Call] = deque()
        self._held: list[Call] = []
        """Calls whose window, or the connection's, is used up."""
        self._window = self._stream_window = 65_535
        self._burst = 1
        self._paused = self._scheduled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        transport.write(b"".join(frame(*parts) for parts in _GREETING))

    def connection_lost(self, exc: Exception | None) -> None:
        self._calls.clear()
        self._firing.clear()
        self._held.clear()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._schedule()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        if not self._greeted:
            if len(buffer) < _PREFACE:
                return
            self._greeted, at = True, _PREFACE
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at - 9 < size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", buffer, at + 3)
            self._take(kind, flags, stream, bytes(buffer[at + 9 : at + 9 + size]))
            at += 9 + size
        del buffer[:at]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._take_data(stream, payload)
        elif kind == HEADERS:
            self._calls[stream] = Call(stream, self._stream_window, payload)
        elif kind == RST_STREAM:
            self._end(self._calls.get(stream))
        elif kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == PING and not flags & 1:
            self.transport.write(frame(PING, 1, 0, payload))
        elif kind == SETTINGS and not flags & 1:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == 4:
                    for call in self._calls.values():
                        call.window += value - self._stream_window
                    self._stream_window = value
            self.transport.write(frame(SETTINGS, 1, 0, b""))

    def _take_data(self, stream: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if call is None or call.messages:
            return
        call.received += payload
        if len(call.received) < 5 or len(call.received) < 5 + int.from_bytes(call.received[1:5], "big"):
            return
        request = bytes(call.received[5:])
        order = _ORDER.search(request)
        if b"/ModelStreamInfer" in call.path and order is not None:
            model = "counted" if b"return_num_output_tokens" in request else "text"
            count, second, third = map(int, order.groups()[1:])
            if order[1] == b"stamped":
                call.messages, call.pause_s, self._burst = (
                    stamped_tokens_of(model, count),
                    second / 1000,
                    _STAMPED_BURST,
                )
                call.due = _next_moment(self._loop.time(), call.pause_s, (stream // 2 % third) / third)
            else:
                call.messages, call.pause_s, self._burst = tokens_of(model, count), third / 1000, second
        else:
            call.messages = [grpc_message(_answer(call.path, request))]
        self.transport.write(frame(HEADERS, 4, stream, _RESPONSE_HEADERS))
        if call.due is not None:
            self._loop.call_at(call.due, self._again, call)
            return
        self._firing.append(call)
        self._schedule()

    def _widen(self, stream: int, by: int) -> None:
        if stream:
            if stream in self._calls:
                self._calls[stream].window += by
        else:
            self._window += by
        self._firing.extend(self._held)
        self._held.clear()
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._firing:
            self._scheduled = True
            self._loop.call_soon(self._fire)

    def _fire(self) -> None:
        """Go once around the calls at hand, one token each, and come back after what has arrived meanwhile."""
        self._scheduled = False
        shots: list[bytes] = []
        for _ in range(max(len(self._firing), self._burst)):
            if self._paused or not self._firing:
                break
            shot = self._shoot(self._firing.popleft())
            if shot:
                shots.append(shot)
            if len(shots) >= self._burst:
                self.transport.write(b"".join(shots))
                shots.clear()
        if shots:
            self.transport.write(b"".join(shots))
        if not self._paused:
            self._schedule()

    def _shoot(self, call: Call) -> bytes:
        message = call.messages[call.sent]
        if len(message) > call.window or len(message) > self._window:
            self._held.append(call)
            return b""
        call.window -= len(message)
        self._window -= len(message)
        call.sent += 1
        if call.due is not None:
            message = stamped(message)
        data = frame(DATA, 0, call.stream, message)
        if call.sent == len(call.messages):
            self._end(call)
            return data + frame(HEADERS, 5, call.stream, _TRAILERS)
        if call.due is not None:
            call.due += call.pause_s
            self._loop.call_at(call.due, self._again, call)
        elif call.pause_s:
            self._loop.call_later(call.pause_s, self._again, call)
        else:
            self._firing.append(call)
        return data

    def _again(self, call: Call) -> None:
        if call.stream in self._calls:
            self._firing.append(call)
            self._schedule()

    def _end(self, call: Call | None) -> None:
        if call is None:
            return
        self._calls.pop(call.stream, None)
        if call in self._firing:
            self._firing.remove(call)
        if call in self._held:
            self._held.remove(call)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Cannon, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
