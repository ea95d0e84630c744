"""HTTP/2's frames as bytes: what there is, and how ours are made."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_prefix = struct.Struct(">BI")
read_prefix, prefix = _prefix.unpack_from, _prefix.pack
"""What stands in front of a gRPC message: whether it is compressed, and its length. Read from bytes, and as bytes."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = 9
"""Bytes in front of each frame's payload: length (24 bits), type, flags, stream."""
read_head = struct.Struct(">IBI").unpack_from
"""Returns length and type in one, flags, and the stream with the reserved bit; the type are the lower 8 bits."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)
FIRST_WINDOW = 65_535
"""What a stream and a connection may send before anybody has said anything (6.9.2)."""
LARGEST_WINDOW = 2**31 - 1
LEAST_FRAME, LARGEST_FRAME = 2**14, 2**24 - 1
LAST_STREAM = 2**31 - 1

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = 12, 13
ERROR_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
"""Section 7, in the order of their codes."""

_head = struct.Struct(">IBI").pack
_setting = struct.Struct(">HI").pack
_word = struct.Struct(">I").pack


class Violation(Exception):
    """The peer broke the protocol. `code` is the error code to tell it; `stream` says that only this stream is over."""

    def __init__(self, code: int, reason: str, *, stream: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.stream = stream


def error_name(code: int) -> str:
    """Return the name of an error code, or its number."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"error {code}"


def frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the head of a frame."""
    return _head(size << 8 | kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join([_setting(key, value) for key, value in values.items()])
    return frame_head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK = frame_head(0, SETTINGS, ACK, 0)


def ping(payload: bytes) -> bytes:
    """Return the answer to a PING of 8 bytes."""
    return frame_head(8, PING, ACK, 0) + payload


def rst_stream(stream: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return frame_head(4, RST_STREAM, 0, stream) + _word(code)


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame_head(4, WINDOW_UPDATE, 0, stream) + _word(increment)


def goaway(last_stream: int, code: int, reason: str = "") -> bytes:
    """Return a GOAWAY frame."""
    debug = reason.encode()[:200]
    return frame_head(8 + len(debug), GOAWAY, 0, 0) + _word(last_stream) + _word(code) + debug


def headers(stream: int, block: bytes, *, largest: int, end_stream: bool = False) -> bytes:
    """Return a header block as one HEADERS frame and as many CONTINUATIONs as it takes."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= largest:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, stream) + block
    parts = [frame_head(largest, HEADERS, flags, stream), block[:largest]]
    for start in range(largest, len(block), largest):
        part = block[start : start + largest]
        last = END_HEADERS if start + largest >= len(block) else 0
        parts += (frame_head(len(part), CONTINUATION, last, stream), part)
    return b"".join(parts)


def whole_call(stream: int, block: bytes, parts: Sequence[bytes | memoryview], size: int) -> bytes:
    """Return a header block and a body of `size` bytes in `parts`, which fit a frame each, and with which a stream
    ends."""
    head = _head(len(block) << 8 | HEADERS, END_HEADERS, stream)
    return b"".join((head, block, _head(size << 8 | DATA, END_STREAM, stream), *parts))
