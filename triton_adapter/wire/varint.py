"""Protobuf's lengths: seven bits per byte, the lowest first, the top bit set on all but the last byte.

https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations

SHORT = [bytes((value,)) for value in range(0x80)]
"""The lengths of one byte, for who writes so many that a call for each is too much."""


def varint(value: int) -> bytes:
    """Return the shortest form of a length."""
    if value < 0x80:
        return SHORT[value]
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the length at `at` and the position after it, which is past the end of `data` when it is cut off."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return value, at + 1
