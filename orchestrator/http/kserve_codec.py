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
from orchestrator.http.reading import parse_object, whole_number

_DATATYPES = frozenset(get_args(Datatype))
_NUMPY = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BF16": "float32",
}  # fmt: skip
_LONGEST_NAME = 256
"""Errors of engines quote names, and travel in headers."""


class AnswerForm(msgspec.Struct, frozen=True):
    """How the answer is to look: which outputs go back as bytes, and under which `id`.

    The `id` is the client's own and only comes back: clients say "1" each time, so that it cannot name a job.
    """

    default: bool
    by_name: Mapping[str, bool]
    id: str = ""

    def is_binary(self, name: str) -> bool:
        return self.by_name.get(name, self.default)


def decode_request(
    body: bytes, header_length: str | None, model: str, version: str | None
) -> tuple[InferRequest, AnswerForm]:
    """Return the inference that a body asks for, and how to answer it; raises `InvalidRequest`."""
    head, rest = _split(body, header_length)
    fields = parse_object(head, "the inference header")
    if not isinstance(fields.get("inputs"), list):
        raise InvalidRequest("the inference header must be an object with a list 'inputs'")
    inputs = []
    for position, spec in enumerate(fields["inputs"]):
        tensor, rest = _input(spec, position, rest)
        inputs.append(tensor)
    if rest:
        raise InvalidRequest(f"{len(rest)} bytes of tensor data belong to no input")
    parameters = _mapping(fields.get("parameters"), "parameters")
    outputs, by_name = _outputs(fields.get("outputs"))
    form = AnswerForm(_flag(parameters, "binary_data_output"), by_name, _text(fields, "id"))
    timeout_us, priority = _number(parameters, "timeout"), _number(parameters, "priority")
    request = InferRequest(
        model=model,
        model_version=version,
        inputs=tuple(inputs),
        outputs=outputs,
        sequence=_sequence(parameters),
        priority=priority,
        timeout_s=timeout_us / 1e6 if timeout_us else None,
        parameters={name: _scalar(name, value) for name, value in parameters.items()},
    )
    return request, form


def encode_response(response: InferResponse, form: AnswerForm) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON part when tensors follow it.

    Raises:
        InvalidRequest: An output has no JSON form, such as bytes that are not UTF-8; ask for it as binary data.
    """
    outputs, blobs = [], []
    for tensor in response.outputs:
        spec: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if form.is_binary(tensor.name):
            spec["parameters"] = {"binary_data_size": len(tensor.data)}
            blobs.append(bytes(tensor.data))
        else:
            spec["data"] = _json_data(tensor)
        outputs.append(spec)
    head: dict[str, Any] = {"model_name": response.model, "outputs": outputs}
    if response.model_version:
        head["model_version"] = response.model_version
    if form.id:
        head["id"] = form.id
    if response.parameters:
        head["parameters"] = dict(response.parameters)
    encoded = msgspec.json.encode(head)
    return (encoded + b"".join(blobs), len(encoded)) if blobs else (encoded, None)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    length = whole_number(header_length)
    if length is None or length > len(body):
        raise InvalidRequest("Inference-Header-Content-Length is not the length of a part of the body")
    return body[:length], memoryview(body)[length:]


def _input(spec: Any, position: int, rest: memoryview) -> tuple[Tensor, memoryview]:
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str) or len(spec["name"]) > _LONGEST_NAME:
        raise InvalidRequest(f"input {position} has no name of at most {_LONGEST_NAME} characters")
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
        flat = _flatten(data, len(shape))
        if not all(isinstance(each, str) for each in flat):
            raise InvalidRequest(f"input {name!r}: elements of BYTES must be texts; send others as binary data")
        return Tensor.from_bytes_elements(name, [each.encode() for each in flat], shape)
    flat, dtype = _flatten(data, len(shape)), np.dtype(_NUMPY[datatype])
    unfit = InvalidRequest(f"input {name!r}: the data does not fit {datatype} {list(shape)}")
    if not _fits(flat, dtype):
        raise unfit
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(flat, dtype=dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError) as exc:
        raise unfit from exc
    if dtype.kind == "f" and not np.isfinite(array).all():  # JSON has no infinity: it was too large a number
        raise unfit
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


def _flatten(data: list[Any], depth: int) -> list[Any]:
    """Return the elements in order; lists that are nested deeper than `depth` stay, and fit no datatype."""
    for _ in range(depth - 1):
        if not any(isinstance(each, list) for each in data):
            break
        data = [inner for each in data for inner in (each if isinstance(each, list) else (each,))]
    return data


def _outputs(specs: Any) -> tuple[tuple[RequestedOutput, ...], dict[str, bool]]:
    outputs, by_name = [], {}
    if specs is not None and not isinstance(specs, list):
        raise InvalidRequest("'outputs' must be a list")
    for spec in specs or ():
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str) or len(spec["name"]) > _LONGEST_NAME:
            raise InvalidRequest(f"each of 'outputs' must have a name of at most {_LONGEST_NAME} characters")
        parameters = _mapping(spec.get("parameters"), "parameters of an output")
        outputs.append(RequestedOutput(spec["name"], _number(parameters, "classification", 2**31 - 1) or 0))
        if "binary_data" in parameters:
            by_name[spec["name"]] = _flag(parameters, "binary_data")
    return tuple(outputs), by_name


def _sequence(parameters: dict[str, Any]) -> Sequence | None:
    start, end = _flag(parameters, "sequence_start"), _flag(parameters, "sequence_end")
    id: int | str | None
    if isinstance(parameters.get("sequence_id"), str):
        id = _text(parameters, "sequence_id", 256)
    else:
        id = _number(parameters, "sequence_id")
    return Sequence(id=id, start=start, end=end) if id else None


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.pop(name, None)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name!r} must be true or false")
    return bool(value)


def _number(fields: dict[str, Any], name: str, most: int = 2**63 - 1) -> int | None:
    value = fields.pop(name, None)
    if value is not None and (type(value) is not int or not 0 <= value <= most):
        raise InvalidRequest(f"{name!r} must be a whole number from 0 to {most}")
    return value


def _text(fields: dict[str, Any], name: str, longest: int = 2**16) -> str:
    value = fields.pop(name, None)
    if value is not None and (not isinstance(value, str) or len(value) > longest):
        raise InvalidRequest(f"{name!r} must be a text of at most {longest} characters")
    return value or ""


def _scalar(name: str, value: Any) -> bool | int | float | str:
    is_large = type(value) is int and not -(2**63) <= value < 2**63
    if not isinstance(value, bool | int | float | str) or is_large:
        raise InvalidRequest(f"parameter {name!r} must be true, false, a number or a text")
    return value


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be an object")
    return dict(value)
