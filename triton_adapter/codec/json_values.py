"""The elements of a tensor as JSON has them, and back. Of the datatypes only BF16 has no form that servers agree on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import isfinite
from typing import Any

from adapter_api import InvalidRequest, ProtocolViolation, Tensor, Unsupported
from triton_adapter.codec.framing import pack_texts
from triton_adapter.codec.values import FORMATS

_FLOATS = frozenset("efd")
_SHOWN = 20


def json_elements(tensor: Tensor, *, way: str, half: bool = True) -> list[Any]:
    """Return a tensor's elements in C order.

    Args:
        tensor: What is to travel.
        way: By what it travels, for messages.
        half: Whether whoever reads it takes FP16.

    Raises:
        Unsupported: JSON cannot carry the datatype, or these values: bytes that are no text, numbers that are none.
    """
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in tensor.elements()]
        except UnicodeDecodeError:
            raise Unsupported(
                f"input {tensor.name!r} has bytes that are no UTF-8 text, which {way} cannot carry; use gRPC"
            ) from None
    letter = FORMATS.get(tensor.datatype)
    if letter is None or (letter == "e" and not half):
        raise Unsupported(f"input {tensor.name!r} is {tensor.datatype}, which {way} cannot carry; use gRPC")
    count = len(tensor.data) // struct.calcsize(letter)
    values = list(struct.unpack(f"<{count}{letter}", tensor.data))
    if letter in _FLOATS and not all(map(isfinite, values)):
        raise Unsupported(f"input {tensor.name!r} has infinite numbers or none, which {way} cannot carry; use gRPC")
    return values


def raw_elements(name: str, datatype: str, value: Any) -> tuple[bytes, int]:
    """Return the raw form of what an answer has for an output, a scalar or lists of any depth, and its element count.

    Texts may hold the lone surrogates that stand for bytes which are no UTF-8 (`surrogateescape`).

    Raises:
        ProtocolViolation: It is not of that datatype, or out of its range.
    """
    values = list(_leaves(value)) if isinstance(value, list) else [value]
    if datatype == "BYTES":
        return pack_texts([_text(name, each) for each in values]), len(values)
    letter = FORMATS.get(datatype)
    if letter is None:
        raise ProtocolViolation(f"the engine sent output {name!r} as JSON in datatype {datatype[:_SHOWN]!r}")
    if (letter == "?") != all(isinstance(each, bool) for each in values) and values:
        raise ProtocolViolation(f"the engine sent output {name!r} in JSON that is no {datatype}")
    try:
        return struct.pack(f"<{len(values)}{letter}", *values), len(values)
    except (struct.error, OverflowError):
        raise ProtocolViolation(
            f"the engine sent output {name!r} in JSON that is no {datatype}, or out of its range"
        ) from None


def input_elements(tensor: Tensor, value: list[Any], declared: tuple[int, ...]) -> Any:
    """Return what goes for an input whose shape the server fills in from `declared`, -1 for any size.

    Raises:
        InvalidRequest: The server would make it another shape.
    """
    left = len(value)
    shape = list(declared)
    for dim in declared:
        if dim > 0:
            left //= dim
    # The last free dimension takes all, and those before it become 1.
    for axis in reversed(range(len(shape))):
        if shape[axis] < 0:
            shape[axis], left = left, 1
    if tuple(shape) != tensor.shape:
        raise InvalidRequest(
            f"input {tensor.name!r} of shape {list(tensor.shape)} cannot travel by generate_stream, which makes it "
            f"{shape}; use gRPC"
        )
    return value[0] if len(value) == 1 else value


def _leaves(value: list[Any]) -> Iterator[Any]:
    # Without recursion: what an engine nests may be deep.
    waiting = [iter(value)]
    while waiting:
        for each in waiting[-1]:
            if isinstance(each, list):
                waiting.append(iter(each))
                break
            yield each
        else:
            waiting.pop()


def _text(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise ProtocolViolation(f"the engine sent output {name!r} in JSON that is no text")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half of a pair that JSON may name by itself: no character, as bytes that are no UTF-8.
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
