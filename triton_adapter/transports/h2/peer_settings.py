"""What a server says in SETTINGS, held against the rules (6.5.2)."""

from __future__ import annotations

from collections.abc import Iterator

from triton_adapter.transports.h2 import frames as f
from triton_adapter.transports.h2.frames import Violation


def settings_of(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield identifiers and values, in their order; raises `Violation` at one that may not be."""
    if len(payload) % 6:
        raise Violation(f.FRAME_SIZE_ERROR, "SETTINGS of a size that is no multiple of 6")
    for at in range(0, len(payload), 6):
        key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
        if key == f.INITIAL_WINDOW_SIZE and value > f.LARGEST_WINDOW:
            raise Violation(f.FLOW_CONTROL_ERROR, "an INITIAL_WINDOW_SIZE above 2³¹-1")
        if key == f.MAX_FRAME_SIZE and not f.LEAST_FRAME <= value <= f.LARGEST_FRAME:
            raise Violation(f.PROTOCOL_ERROR, f"a MAX_FRAME_SIZE of {value}")
        if key == f.ENABLE_PUSH and value != 0:
            raise Violation(f.PROTOCOL_ERROR, "ENABLE_PUSH, from a server")
        yield key, value
