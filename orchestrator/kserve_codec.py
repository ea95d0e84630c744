"""The v2 protocol's REST form of tensors, JSON and binary: bytes <-> values, no I/O.

Binary tensors follow the JSON, whose length the header `Inference-Header-Content-Length` tells
(Triton's extension https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
import numpy as np

from adapter_api import Datatype, InferRequest, InferResponse, InvalidRequest, RequestedOutput, Sequence, Tensor

_DATATYPES = frozenset(get_args(Datatype))
_NUMPY = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BF16": "float32",
}  # fmt: skip
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


class BinaryOutputs(msgspec.Struct, frozen=True):
    """Which outputs go back as bytes."""

    default: bool
    by_name: Mapping[str, bool]

    def wants(self, name: str) -> bool:
        return self.by_name.get(name, self.default)


def decode_request(
    body: bytes, header_length: str | None, model: str, version: str | None
) -> tuple[InferRequest, BinaryOutputs]:
    """Return the inference that a body asks for, and which outputs to send back as bytes; raises `InvalidRequest`."""
    head, rest = _split(body, header_length)
    try:
        fields = msgspec.json.decode(head)
    except msgspec.MsgspecError as exc:
        raise InvalidRequest(f"the inference header is not JSON: {exc}") from exc
    if not isinstance(fields, dict) or not isinstance(fields.get("inputs"), list):
        raise InvalidRequest("the inference header must be an object with a list 'inputs'")
    inputs = []
    for position, spec in enumerate(fields["inputs"]):
        tensor, rest = _input(spec, position, rest)
        inputs.append(tensor)
    if rest:
        raise InvalidRequest(f"{len(rest)} bytes of tensor data belong to no input")
    parameters = _mapping(fields.get("parameters"), "parameters")
    outputs, by_name = _outputs(fields.get("outputs"))
    binary = BinaryOutputs(default=bool(parameters.pop("binary_data_output", False)), by_name=by_name)
    timeout_us = parameters.pop("timeout", None)
    priority = parameters.pop("priority", None)
    request = InferRequest(
        model=model,
        model_version=version,
        inputs=tuple(inputs),
        outputs=outputs,
        sequence=_sequence(parameters),
        priority=priority if isinstance(priority, int) else None,
        timeout_s=timeout_us / 1e6 if isinstance(timeout_us, int) and timeout_us > 0 else None,
        parameters={name: value for name, value in parameters.items() if isinstance(value, bool | int | float | str)},
    )
    if isinstance(request_id := fields.get("id"), str) and request_id:
        request = msgspec.structs.replace(request, request_id=request_id)
    return request, binary


def encode_response(response: InferResponse, binary: BinaryOutputs) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON part when tensors follow it.

    Raises:
        InvalidRequest: An output has no JSON form, such as bytes that are not UTF-8; ask for it as binary data.
    """
    outputs, blobs = [], []
    for tensor in response.outputs:
        spec: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if binary.wants(tensor.name):
            spec["parameters"] = {"binary_data_size": len(tensor.data)}
            blobs.append(bytes(tensor.data))
        else:
            spec["data"] = _json_data(tensor)
        outputs.append(spec)
    head: dict[str, Any] = {
        "model_name": response.model,
        "model_version": response.model_version or "1",
        "outputs": outputs,
    }
    if response.request_id:
        head["id"] = response.request_id
    if response.parameters:
        head["parameters"] = dict(response.parameters)
    encoded = msgspec.json.encode(head)
    return (encoded + b"".join(blobs), len(encoded)) if blobs else (encoded, None)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isdigit() or int(header_length) > len(body):
        raise InvalidRequest("Inference-Header-Content-Length is not the length of a part of the body")
    length = int(header_length)
    return body[:length], memoryview(body)[length:]


def _input(spec: Any, position: int, rest: memoryview) -> tuple[Tensor, memoryview]:
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise InvalidRequest(f"input {position} has no name")
    name, shape = spec["name"], spec.get("shape")
    datatype: Any = spec.get("datatype")
    # By equality: what cannot be hashed is no datatype either.
    if not any(datatype == known for known in _DATATYPES):
        raise InvalidRequest(f"input {name!r}: {datatype!r} is no datatype of the v2 protocol")
    if not isinstance(shape, list) or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise InvalidRequest(f"input {name!r}: shape must be a list of sizes")
    size = _mapping(spec.get("parameters"), f"parameters of input {name!r}").get("binary_data_size")
    if size is None:
        return _from_json(name, datatype, tuple(shape), spec.get("data")), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise InvalidRequest(f"input {name!r}: binary_data_size is not the size of what follows")
    return Tensor(name, datatype, tuple(shape), bytes(rest[:size])), rest[size:]


def _from_json(name: str, datatype: Any, shape: tuple[int, ...], data: Any) -> Tensor:
    if not isinstance(data, list):
        raise InvalidRequest(f"input {name!r} has no data: a list, or binary_data_size")
    if datatype == "BYTES":
        flat = _flatten(data)
        if not all(isinstance(each, str) for each in flat):
            raise InvalidRequest(f"input {name!r}: elements of BYTES must be texts; send others as binary data")
        return Tensor.from_bytes_elements(name, [each.encode() for each in flat], shape)
    flat, dtype = _flatten(data), np.dtype(_NUMPY[datatype])
    if not _fits(flat, dtype):
        raise InvalidRequest(f"input {name!r}: the data does not fit {datatype} {list(shape)}")
    try:
        array = np.asarray(flat, dtype=dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError) as exc:
        raise InvalidRequest(f"input {name!r}: the data does not fit {datatype} {list(shape)}") from exc
    return Tensor.from_numpy(name, array, datatype)


def _fits(flat: list[Any], dtype: np.dtype[Any]) -> bool:
    """numpy cuts numbers that are too large, and makes numbers of texts."""
    if dtype.kind == "b":
        return all(type(each) is bool or each in (0, 1) for each in flat)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return all(type(each) is int and limits.min <= each <= limits.max for each in flat)
    return all(type(each) in (int, float) for each in flat)


def _json_data(tensor: Tensor) -> list[Any]:
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in tensor.elements()]
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"output {tensor.name!r} is not text; ask for it as binary data") from exc
    flat: list[Any] = tensor.to_numpy().ravel().tolist()
    if tensor.datatype in ("FP16", "BF16", "FP32", "FP64") and not np.isfinite(flat).all():
        raise InvalidRequest(f"output {tensor.name!r} is not finite, which JSON cannot say; ask for it as binary data")
    return flat


def _flatten(data: list[Any]) -> list[Any]:
    if not any(isinstance(each, list) for each in data):
        return data
    return [inner for each in data for inner in (_flatten(each) if isinstance(each, list) else [each])]


def _outputs(specs: Any) -> tuple[tuple[RequestedOutput, ...], dict[str, bool]]:
    outputs, by_name = [], {}
    if specs is not None and not isinstance(specs, list):
        raise InvalidRequest("'outputs' must be a list")
    for spec in specs or ():
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
            raise InvalidRequest("each of 'outputs' must have a name")
        parameters = _mapping(spec.get("parameters"), "parameters of an output")
        classification = parameters.get("classification", 0)
        outputs.append(RequestedOutput(spec["name"], classification if type(classification) is int else 0))
        if "binary_data" in parameters:
            by_name[spec["name"]] = bool(parameters["binary_data"])
    return tuple(outputs), by_name


def _sequence(parameters: dict[str, Any]) -> Sequence | None:
    id, start, end = (parameters.pop(name, None) for name in _SEQUENCE)
    if not isinstance(id, int | str) or isinstance(id, bool) or id in (0, ""):
        return None
    return Sequence(id=id, start=bool(start), end=bool(end))


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be an object")
    return dict(value)
