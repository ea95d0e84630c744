"""A header block, which may come in several frames (4.3, 6.2, 6.10), made whole."""

from __future__ import annotations

from triton_adapter.transports.h2 import frames as f
from triton_adapter.transports.h2.frames import Violation
from triton_adapter.transports.h2.head import MAX_HEADER_BLOCK


class Blocks:
    """Of one connection: one block at a time, for nothing else may come before it is whole."""

    __slots__ = ("_flags", "_pieces", "_size", "_stream", "begun")

    def __init__(self) -> None:
        self.begun = False
        """Whether CONTINUATIONs have to follow."""
        self._stream = self._flags = self._size = 0
        self._pieces: list[bytes] = []

    def begin(self, flags: int, stream: int, payload: bytes) -> bytes | None:
        """Take a HEADERS frame; returns its block if that is whole."""
        if not stream & 1:
            raise Violation(f.PROTOCOL_ERROR, "an answer on a stream that is none of ours")
        if flags & f.PADDED:
            payload = unpadded(payload)
        if flags & f.WITH_PRIORITY:
            if len(payload) < 5:
                raise Violation(f.FRAME_SIZE_ERROR, "a HEADERS that is too short for its priority")
            payload = payload[5:]
        if flags & f.END_HEADERS:
            return payload
        self.begun, self._stream, self._flags = True, stream, flags
        self._pieces, self._size = [payload], len(payload)
        return None

    def go_on(self, flags: int, stream: int, payload: bytes) -> tuple[int, bytes] | None:
        """Take a CONTINUATION; returns the flags of the frame that began it, and the block, if that is whole."""
        if not self.begun or self._stream != stream:
            raise Violation(f.PROTOCOL_ERROR, "a CONTINUATION that continues nothing")
        self._pieces.append(payload)
        self._size += len(payload)
        if self._size > MAX_HEADER_BLOCK:
            raise Violation(f.ENHANCE_YOUR_CALM, f"a header block of more than {MAX_HEADER_BLOCK} bytes")
        if not flags & f.END_HEADERS:
            return None
        block, self._pieces, self.begun = b"".join(self._pieces), [], False
        return self._flags, block


def unpadded(payload: bytes) -> bytes:
    """Return what a frame carries beside its padding (6.1)."""
    if not payload or payload[0] >= len(payload):
        raise Violation(f.PROTOCOL_ERROR, "padding that is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
