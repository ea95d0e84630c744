"""Where the contents of tensors lie in the bytes of a ModelInferResponse, so that large ones need no copy."""

from __future__ import annotations

from triton_adapter.wire.varint import read_varint

_RAW_FIELD = 6  # ModelInferResponse.raw_output_contents
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LARGE = 64 * 1024
"""Contents from here on stay where they are; less is not worth keeping a whole message in memory for."""


def split_off_contents(data: memoryview) -> tuple[bytes, list[bytes | memoryview]]:
    """Return a ModelInferResponse without `raw_output_contents`, and those: large ones as views.

    Raises:
        ValueError: It does not parse.
    """
    head: list[memoryview] = []
    contents: list[bytes | memoryview] = []
    at, end = 0, len(data)
    while at < end:
        began = at
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == _DELIMITED:
            size, at = read_varint(data, at)
            if tag >> 3 == _RAW_FIELD:
                found = data[at : at + size]
                contents.append(found if size >= _LARGE else bytes(found))
                began = at + size
            at += size
        elif kind == _VARINT:
            _, at = read_varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of wire type {kind}")
        if at > end:
            raise ValueError("a field that is cut off")
        head.append(data[began:at])
    return b"".join(head), contents
