"""Tensors as Dynamo hands them to a worker, and as it takes them back. No I/O.

Values are numbers in a list, one per element, whatever the client sent; FP16 and BF16 are the 16 bits of each as an
integer, BYTES are lists of integers. That is one pass in, and none out where there are many: an `array` is a sequence
to Dynamo, which makes a number of each element as it writes it. Millions in a list would be made to be thrown away.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from adapter_api import Datatype, InferResponse, InvalidRequest, Tensor
from adapter_api.bounds import MAX_TENSORS

# Name at Dynamo -> datatype, and the `array` code of its elements.
_TYPES: Mapping[str, tuple[Datatype, str]] = {
    "Bool": ("BOOL", "B"), "Uint8": ("UINT8", "B"), "Uint16": ("UINT16", "H"), "Uint32": ("UINT32", "I"),
    "Uint64": ("UINT64", "Q"), "Int8": ("INT8", "b"), "Int16": ("INT16", "h"), "Int32": ("INT32", "i"),
    "Int64": ("INT64", "q"), "Float16": ("FP16", "H"), "BFloat16": ("BF16", "H"), "Float32": ("FP32", "f"),
    "Float64": ("FP64", "d"), "Bytes": ("BYTES", ""),
}  # fmt: skip
_NAMES: Mapping[str, tuple[str, str]] = {datatype: (name, code) for name, (datatype, code) in _TYPES.items()}


_FEW = 2048
"""Up to so many elements a list is cheaper: Dynamo takes 0.03 ms to see that an array is a sequence."""


def name_of(datatype: str) -> str | None:
    """Return Dynamo's name of a datatype, or `None` where it has none."""
    found = _NAMES.get(datatype)
    return None if found is None else found[0]


def tensors_in(given: Any) -> tuple[Tensor, ...]:
    """Return the tensors of a request; raises `InvalidRequest`."""
    if not isinstance(given, list):
        raise InvalidRequest("'tensors' must be a list")
    if len(given) > MAX_TENSORS:
        raise InvalidRequest(f"there are {len(given)} inputs; there may be {MAX_TENSORS}")
    return tuple(_tensor(each) for each in given)


def _tensor(given: Any) -> Tensor:
    try:
        metadata, values = given["metadata"], given["data"]["values"]
        name, kind, shape = metadata["name"], metadata["data_type"], tuple(metadata["shape"])
    except (KeyError, TypeError) as exc:
        raise InvalidRequest("a tensor has 'metadata' (name, data_type, shape) and 'data' (values)") from exc
    found = _TYPES.get(kind)
    if found is None:
        raise InvalidRequest(f"tensor {name!r}: {kind!r} is no data type of this worker")
    datatype, code = found
    try:
        if datatype == "BYTES":
            return Tensor.from_bytes_elements(name, [_packed("B", element) for element in values], shape)
        return Tensor(name, datatype, shape, _packed(code, values))
    except (TypeError, ValueError, OverflowError, struct.error) as exc:
        raise InvalidRequest(f"tensor {name!r}: the values are none of {datatype}") from exc


def _packed(code: str, values: Any) -> bytes:
    """Return numbers as an array's bytes, each kind in the way that is quickest for it."""
    if not isinstance(values, list):
        raise TypeError("values come as a list")  # `bytes` would take a number, and make so many zeros of it
    if code == "f":
        return struct.pack(f"{len(values)}f", *values)
    return bytes(values) if code == "B" else array(code, values).tobytes()


def answer_of(response: InferResponse, *, request_id: str | None, model: str, wanted: Sequence[str]) -> dict[str, Any]:
    """Return what the frontend takes: the outputs in the order they were asked for, all when none were.

    Nobody but the worker filters them. `model` is the name the client used.
    """
    outputs = response.outputs
    if wanted:
        by_name = {tensor.name: tensor for tensor in outputs}
        outputs = tuple(by_name[name] for name in wanted if name in by_name)
    answer: dict[str, Any] = {"id": request_id, "model": model, "tensors": [_values(tensor) for tensor in outputs]}
    if parameters := {name: tagged(value) for name, value in response.parameters.items()}:
        answer["parameters"] = parameters
    return answer


def tagged(value: bool | int | float | str) -> dict[str, Any]:
    """Return a parameter in Dynamo's form: one key, its type."""
    if isinstance(value, bool):
        return {"bool": value}
    return {{int: "int64", float: "double"}.get(type(value), "string"): value}


def _values(tensor: Tensor) -> dict[str, Any]:
    name, code = _NAMES[tensor.datatype]
    values: list[Any] | array[Any]
    if tensor.datatype == "BYTES":
        values = [list(element) for element in tensor.elements()]
    elif tensor.datatype == "BOOL":
        values = list(map(bool, tensor.data))
    else:
        values = array(code)
        values.frombytes(tensor.data)
        if len(values) <= _FEW:
            values = values.tolist()
    return {
        "metadata": {"name": tensor.name, "data_type": name, "shape": list(tensor.shape)},
        "data": {"data_type": name, "values": values},
    }
