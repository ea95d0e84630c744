"""HTTP/2 frames (RFC 9113), as far as a proxy must know them to put one of its own between two others."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER_BYTES = 9
_END_STREAM = 0x1
_END_HEADERS = 0x4
_GRPC_PREFIX_BYTES = 5


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    GOAWAY = 7
    CONTINUATION = 9


class ErrorCode(IntEnum):
    """The error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    REFUSED_STREAM = 7
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11


class Frame(NamedTuple):
    """One frame as it is on the wire, header included."""

    wire: bytes

    @property
    def kind(self) -> int:
        return self.wire[3]

    @property
    def stream_id(self) -> int:
        return int.from_bytes(self.wire[5:9], "big") & 0x7FFFFFFF

    @property
    def payload(self) -> memoryview:
        return memoryview(self.wire)[_HEADER_BYTES:]

    @property
    def ends_stream(self) -> bool:
        ended = self.kind in (FrameType.DATA, FrameType.HEADERS) and bool(self.wire[4] & _END_STREAM)
        return ended or self.kind == FrameType.RST_STREAM

    @property
    def opens_header_block(self) -> bool:
        """Whether the next frame must be a CONTINUATION of this one."""
        return self.kind in (FrameType.HEADERS, FrameType.CONTINUATION) and not self.wire[4] & _END_HEADERS


def rst_stream(stream_id: int, code: int) -> Frame:
    return _frame(FrameType.RST_STREAM, stream_id, code.to_bytes(4, "big"))


def go_away(last_stream_id: int, code: int, debug: bytes) -> Frame:
    return _frame(FrameType.GOAWAY, 0, last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def _frame(kind: FrameType, stream_id: int, payload: bytes) -> Frame:
    header = len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream_id.to_bytes(4, "big")
    return Frame(header + payload)


class FrameSplitter:
    """Cut one direction of a connection into frames; what comes before the first one is `preface_bytes` long."""

    def __init__(self, preface_bytes: int = 0) -> None:
        self._preface_left = preface_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, list[Frame]]:
        """Return what of `data` belongs to the preface, and the frames that are whole now."""
        self._buffer += data
        preface = bytes(self._buffer[: self._preface_left])
        del self._buffer[: len(preface)]
        self._preface_left -= len(preface)
        frames = []
        while len(self._buffer) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                break
            frames.append(Frame(bytes(self._buffer[:end])))
            del self._buffer[:end]
        return preface, frames


class MessageCounter:
    """Count the gRPC messages that have passed completely, over all streams of a connection."""

    def __init__(self) -> None:
        self.count = 0
        self._open: dict[int, bytearray] = {}

    def feed(self, frame: Frame) -> None:
        if frame.kind == FrameType.DATA:
            buffer = self._open.setdefault(frame.stream_id, bytearray())
            buffer += frame.payload
            while len(buffer) >= _GRPC_PREFIX_BYTES:
                end = _GRPC_PREFIX_BYTES + int.from_bytes(buffer[1:5], "big")
                if len(buffer) < end:
                    break
                del buffer[:end]
                self.count += 1
        if frame.ends_stream:
            self._open.pop(frame.stream_id, None)
