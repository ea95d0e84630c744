"""The v2 protocol's REST form of tensors, JSON and binary: bytes <-> values, no I/O.

Binary tensors follow the JSON, whose length the header `Inference-Header-Content-Length` tells
(Triton's extension https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
import numpy as np

from adapter_api import Datatype, InferRequest, InferResponse, InvalidRequest, RequestedOutput, Sequence, Tensor
from adapter_api.bounds import MAX_DIM, MAX_DIMS, MAX_PARAMETERS, MAX_TENSORS, MAX_TIMEOUT_S
from orchestrator.http.json_bounds import NAMES_AND_TEXTS, require_bounded
from orchestrator.http.reading import MAX_VALUES, parse_value, whole_number
from orchestrator.http.tensor_json import json_of_numbers, numbers_in, texts_in

_DATATYPES = frozenset(get_args(Datatype))
_NUMPY = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BF16": "float32",
}  # fmt: skip
_LONGEST_NAME = 256
"""Errors of engines quote names, and travel in headers."""
MAX_LISTS = 2**20
"""In the JSON of an inference: rows of a nested tensor, for one."""
_LONGEST_FIELD = 2**18
"""Bytes of anything but data: small enough to be parsed at once."""
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPECS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


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
    body: bytes, header_length: str | None, model: str, version: str | None, *, values: int = MAX_VALUES
) -> tuple[InferRequest, AnswerForm]:
    """Return the inference that a body asks for, and how to answer it; raises `InvalidRequest`.

    Args:
        body: JSON, and binary tensors after it.
        header_length: What the header of that name says; `None` without it.
        model: What the path names.
        version: What the path names.
        values: How many values the JSON may have, beside the numbers of tensors.
    """
    head, rest = _split(body, header_length)
    fields = _head(head, values)
    try:
        specs = _SPECS.decode(fields["inputs"])
    except (KeyError, msgspec.ValidationError) as exc:
        raise InvalidRequest("the inference header must be an object with a list 'inputs' of objects") from exc
    if len(specs) > MAX_TENSORS:
        raise InvalidRequest(f"there are {len(specs)} inputs; there may be {MAX_TENSORS}")
    inputs = []
    for position, spec in enumerate(specs):
        tensor, rest = _input(spec, position, rest, values)
        inputs.append(tensor)
    if rest:
        raise InvalidRequest(f"{len(rest)} bytes of tensor data belong to no input")
    parameters = _mapping(_value(fields, "parameters"), "parameters")
    outputs, by_name = _outputs(_value(fields, "outputs"))
    form = AnswerForm(_flag(parameters, "binary_data_output"), by_name, _text({"id": _value(fields, "id")}, "id"))
    timeout_us, priority = _number(parameters, "timeout", int(MAX_TIMEOUT_S * 1e6)), _number(parameters, "priority")
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


def _head(head: bytes, values: int) -> dict[str, msgspec.Raw]:
    """Return the fields of the JSON part, unparsed: what is in tensors must not become millions of objects."""
    what = "the inference header"
    require_bounded(head, what, values=values, depth=None, counted=NAMES_AND_TEXTS)
    require_bounded(head, what, values=MAX_LISTS, depth=None, counted=b"[", noun="lists")
    try:
        if not head.isascii():
            head.decode()
        return _FIELDS.decode(head)
    except RecursionError as exc:
        raise InvalidRequest(f"{what} is nested too deeply") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{what} is not UTF-8 text") from exc
    except msgspec.ValidationError as exc:
        raise InvalidRequest(f"{what} is not a JSON object") from exc
    except msgspec.MsgspecError as exc:
        raise InvalidRequest(f"{what} is not JSON: {exc}") from exc


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


def _input(spec: dict[str, msgspec.Raw], position: int, rest: memoryview, values: int) -> tuple[Tensor, memoryview]:
    name = _value(spec, "name")
    if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME:
        raise InvalidRequest(f"input {position} has no name of at most {_LONGEST_NAME} characters")
    shape, datatype = _value(spec, "shape", f"shape of input {name!r}"), _value(spec, "datatype")
    # By equality: what cannot be hashed is no datatype either.
    if not any(datatype == known for known in _DATATYPES):
        raise InvalidRequest(f"input {name!r}: {reprlib.repr(datatype)} is no datatype of the v2 protocol")
    if not isinstance(shape, list) or not all(type(dim) is int and 0 <= dim <= MAX_DIM for dim in shape):
        raise InvalidRequest(f"input {name!r}: shape must be a list of sizes, each from 0 to {MAX_DIM}")
    if len(shape) > MAX_DIMS:
        raise InvalidRequest(f"input {name!r} has {len(shape)} dimensions; there may be {MAX_DIMS}")
    what = f"parameters of input {name!r}"
    size = _mapping(_value(spec, "parameters", what), what).get("binary_data_size")
    if size is None:
        return _from_json(name, datatype, tuple(shape), spec.get("data"), values), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise InvalidRequest(f"input {name!r}: binary_data_size is not the size of what follows")
    return Tensor(name, datatype, tuple(shape), bytes(rest[:size])), rest[size:]


def _from_json(name: str, datatype: Any, shape: tuple[int, ...], data: msgspec.Raw | None, values: int) -> Tensor:
    if data is None or not bytes(memoryview(data)[:1]) == b"[":
        raise InvalidRequest(f"input {name!r} has no data: a list, or binary_data_size")
    try:
        if datatype == "BYTES":
            require_bounded(bytes(data), f"input {name!r}", values=values)
            texts = texts_in(data, len(shape))
            return Tensor.from_bytes_elements(name, [each.encode() for each in texts], shape)
        array = numbers_in(data, np.dtype(_NUMPY[datatype]), len(shape)).reshape(shape)
    except TypeError as exc:
        raise InvalidRequest(f"input {name!r}: elements of BYTES must be texts; send others as binary data") from exc
    except ValueError as exc:
        raise InvalidRequest(f"input {name!r}: the data does not fit {datatype} {list(shape)}") from exc
    return Tensor.from_numpy(name, array, datatype)


def _json_data(tensor: Tensor) -> Any:
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in tensor.elements()]
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"output {tensor.name!r} is not text; ask for it as binary data") from exc
    array = tensor.to_numpy().ravel()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidRequest(f"output {tensor.name!r} is not finite, which JSON cannot say; ask for it as binary data")
    return msgspec.Raw(json_of_numbers(array))


def _outputs(specs: Any) -> tuple[tuple[RequestedOutput, ...], dict[str, bool]]:
    outputs, by_name = [], {}
    if specs is not None and not isinstance(specs, list):
        raise InvalidRequest("'outputs' must be a list")
    if specs and len(specs) > MAX_TENSORS:
        raise InvalidRequest(f"there are {len(specs)} 'outputs'; there may be {MAX_TENSORS}")
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


def _value(fields: Mapping[str, msgspec.Raw], name: str, what: str | None = None) -> Any:
    """Return the value of a field; `None` without it. Raises `InvalidRequest` for one that is absurdly long."""
    raw = fields.get(name)
    if raw is None:
        return None
    what = what or f"{name!r}"
    if memoryview(raw).nbytes > _LONGEST_FIELD:
        raise InvalidRequest(f"{what} is longer than {_LONGEST_FIELD} bytes")
    return parse_value(bytes(raw), what)


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
    if not isinstance(value, bool | int | float | str):
        raise InvalidRequest(f"parameter {name[:_LONGEST_NAME]!r} must be true, false, a number or a text")
    return value


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be an object")
    if len(value) > MAX_PARAMETERS:
        raise InvalidRequest(f"{what} has {len(value)} fields; there may be {MAX_PARAMETERS}")
    return dict(value)
