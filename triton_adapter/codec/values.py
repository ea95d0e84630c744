"""Numbers and texts to and from tensors, as a model declares them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

from adapter_api import InvalidRequest, ProtocolViolation, Tensor
from adapter_api.task import ParameterValue
from triton_adapter.codec.framing import pack_texts
from triton_adapter.schema import RawTensor, TensorSpec

# https://docs.python.org/3/library/struct.html#format-characters
FORMATS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Of datatypes whose elements are numbers, by the letters of `struct`."""
_ONE = ((1,), (-1,))
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def make_tensor(spec: TensorSpec, values: Sequence[ParameterValue | bytes], *, batched: bool) -> Tensor:
    """Return `values` as the input that `spec` declares, with a batch of one in front if `batched`.

    Values are cast when nothing is lost by it: 3 to FP32, 3.0 to INT32, "3" to either, 3 to BYTES.

    Raises:
        InvalidRequest: A value does not fit the datatype, or their number the shape. The message names the input and
            not the value.
    """
    shape = _shape(spec, len(values))
    if spec.datatype == "BYTES":
        data = _pack_texts(spec, values)
    else:
        data = _pack_numbers(spec, values)
    return Tensor(spec.name, spec.datatype, (1, *shape) if batched else shape, data)  # type: ignore[arg-type]


def read_numbers(tensor: RawTensor) -> tuple[Any, ...]:
    """Return the elements of a numeric output in C order; none for a datatype that has no numbers.

    Raises:
        ProtocolViolation: The last one is cut off.
    """
    letter = FORMATS.get(tensor.datatype)
    if letter is None:
        return ()
    count, rest = divmod(len(tensor.data), struct.calcsize(letter))
    if rest:
        raise ProtocolViolation(f"the engine sent a tensor of {tensor.datatype} that is cut off inside a number")
    return struct.unpack(f"<{count}{letter}", tensor.data)


def read_count(tensor: RawTensor) -> int | None:
    """Return the first number of an output that counts something; `None` when it is empty.

    Raises:
        ProtocolViolation: It is no whole number of 0 or more.
    """
    numbers = read_numbers(tensor)
    if not numbers:
        if tensor.data:
            raise ProtocolViolation(f"the engine sent a count of datatype {tensor.datatype[:20]!r}")
        return None
    number = numbers[0]
    if not (isfinite(number) and number >= 0 and number == int(number)):
        raise ProtocolViolation(f"the engine sent {number!r} where it counts something")
    return int(number)


def _shape(spec: TensorSpec, count: int) -> tuple[int, ...]:
    """Return `dims` with the last -1 replaced so that it holds `count` elements, and other -1s by 1."""
    if count == 1 and spec.dims in _ONE:  # most inputs of a task
        return (1,)
    shape = [1 if dim < 0 else dim for dim in spec.dims]
    for axis in reversed(range(len(shape))):
        if spec.dims[axis] < 0:
            shape[axis] = count if prod(shape) == 1 else shape[axis]
            break
    if prod(shape) != count:
        raise InvalidRequest(
            f"input {spec.name!r} of the model takes {prod(shape)} element(s) ({list(spec.dims)}), not {count}"
        )
    return tuple(shape)


def _pack_texts(spec: TensorSpec, values: Sequence[ParameterValue | bytes]) -> bytes:
    try:
        return pack_texts([value if isinstance(value, bytes) else str(value).encode() for value in values])
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"the text for input {spec.name!r} has half a character in it (a lone surrogate)"
        ) from None


def _pack_numbers(spec: TensorSpec, values: Sequence[ParameterValue | bytes]) -> bytes:
    try:
        if spec.datatype == "BF16":
            # The upper half of an FP32; what a task holds needs no more care in rounding.
            return b"".join(struct.pack("<f", _real(value))[2:] for value in values)
        letter = FORMATS[spec.datatype]
        cast = _flag if letter == "?" else _real if letter in "efd" else _whole
        return struct.pack(f"<{len(values)}{letter}", *map(cast, values))
    except KeyError:
        raise InvalidRequest(f"input {spec.name!r} has datatype {spec.datatype}, which a task cannot fill") from None
    except (ValueError, TypeError, struct.error, OverflowError):
        kinds = ", ".join(sorted({type(value).__name__ for value in values}))
        raise InvalidRequest(
            f"the value for input {spec.name!r} does not fit its datatype {spec.datatype} (it is of type {kinds}, "
            "or out of range)"
        ) from None


def _whole(value: ParameterValue | bytes) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    return int(value)


def _real(value: ParameterValue | bytes) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError("not a finite number")
    return number


def _flag(value: ParameterValue | bytes) -> bool:
    if isinstance(value, bool):
        return value
    flag = _WORDS.get(str(value).strip().lower())
    if flag is None:
        raise ValueError("neither true nor false")
    return flag
