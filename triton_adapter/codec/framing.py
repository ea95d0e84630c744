"""BYTES tensors: each element is a 4-byte little-endian length and that many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from adapter_api import ProtocolViolation

TEXT_PREFIX = 4
"""Bytes of the length in front of each element."""
text_size = struct.Struct("<I").unpack_from
"""Returns the size of the first element, in a tuple."""


def pack_texts(elements: Iterable[bytes]) -> bytes:
    """Return the raw form of `elements`."""
    return b"".join([len(element).to_bytes(TEXT_PREFIX, "little") + element for element in elements])


def text_elements(raw: bytes | memoryview) -> list[bytes]:
    """Return the elements of a raw BYTES tensor.

    Raises:
        ProtocolViolation: The framing is broken.
    """
    elements: list[bytes] = []
    offset, size = 0, len(raw)
    while offset < size:
        end = offset + TEXT_PREFIX + int.from_bytes(raw[offset : offset + TEXT_PREFIX], "little")
        if end > size or offset + TEXT_PREFIX > size:
            raise ProtocolViolation(f"the engine sent a BYTES tensor that is cut off at byte {offset} of {size}")
        elements.append(bytes(raw[offset + TEXT_PREFIX : end]))
        offset = end
    return elements


def count_texts(raw: bytes | memoryview) -> int:
    """Return how many elements a raw BYTES tensor has; raises `ProtocolViolation` when the framing is broken."""
    count, offset, size = 0, 0, len(raw)
    while offset < size:
        if offset + TEXT_PREFIX > size:
            break
        offset += TEXT_PREFIX + text_size(raw, offset)[0]
        count += 1
    if offset != size:
        raise ProtocolViolation(f"the engine sent a BYTES tensor that is cut off after {size} bytes")
    return count


def first_text(raw: bytes | memoryview) -> bytes:
    """Return the only element of a raw BYTES tensor, or nothing for an empty one.

    Raises:
        ProtocolViolation: The framing is broken, or there are several elements: one task has one text.
    """
    # A token is one element: this line is the whole cost then.
    if len(raw) >= TEXT_PREFIX and len(raw) == TEXT_PREFIX + text_size(raw)[0]:
        return bytes(raw[TEXT_PREFIX:])
    elements = text_elements(raw)
    if len(elements) > 1:
        raise ProtocolViolation(f"the engine sent {len(elements)} texts for one prompt; a task can show only one")
    return elements[0] if elements else b""
