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

from adapter_api import (
    Datatype,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ProtocolViolation,
    RequestedOutput,
    Sequence,
    Tensor,
    Unsupported,
)
from adapter_api.bounds import MAX_DIM, MAX_DIMS, MAX_TENSORS, MAX_TIMEOUT_S
from orchestrator.http.json_bounds import require_bounded
from orchestrator.http.kserve_fields import (
    LONGEST_NAME,
    field_of,
    flag_of,
    head_of,
    mapping_of,
    number_of,
    scalar_of,
    text_of,
)
from orchestrator.http.reading import MAX_VALUES, whole_number
from orchestrator.http.tensor_json import json_of_numbers, json_of_texts, numbers_in, texts_in

_DATATYPES = frozenset(get_args(Datatype))
NUMPY = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BF16": "float32",
}  # fmt: skip
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
    fields = head_of(head, values)
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
    parameters = mapping_of(field_of(fields, "parameters"), "parameters")
    outputs, by_name = _outputs(field_of(fields, "outputs"))
    form = AnswerForm(flag_of(parameters, "binary_data_output"), by_name, text_of({"id": field_of(fields, "id")}, "id"))
    timeout_us, priority = number_of(parameters, "timeout", 2**64 - 1), number_of(parameters, "priority")
    request = InferRequest(
        model=model,
        model_version=version,
        inputs=tuple(inputs),
        outputs=outputs,
        sequence=_sequence(parameters),
        priority=priority,
        queue_timeout_s=min(timeout_us / 1e6, MAX_TIMEOUT_S) if timeout_us else None,
        parameters={name: scalar_of(name, value) for name, value in parameters.items()},
    )
    return request, form


def encode_response(response: InferResponse, form: AnswerForm) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON part when tensors follow it.

    Raises:
        ProtocolViolation: An output is not what its datatype says.
    """
    outputs, blobs = [], []
    for tensor in response.outputs:
        spec: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if form.is_binary(tensor.name):
            spec["parameters"] = {"binary_data_size": len(tensor.data)}
            blobs.append(bytes(tensor.data))
        else:
            spec["data"] = json_data(tensor)
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
    name = field_of(spec, "name")
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
        raise InvalidRequest(f"input {position} has no name of at most {LONGEST_NAME} characters")
    shape, datatype = field_of(spec, "shape", f"shape of input {name!r}"), field_of(spec, "datatype")
    # By equality: what cannot be hashed is no datatype either.
    if not any(datatype == known for known in _DATATYPES):
        raise InvalidRequest(f"input {name!r}: {reprlib.repr(datatype)} is no datatype of the v2 protocol")
    if not isinstance(shape, list) or not all(type(dim) is int and 0 <= dim <= MAX_DIM for dim in shape):
        raise InvalidRequest(f"input {name!r}: shape must be a list of sizes, each from 0 to {MAX_DIM}")
    if len(shape) > MAX_DIMS:
        raise InvalidRequest(f"input {name!r} has {len(shape)} dimensions; there may be {MAX_DIMS}")
    what = f"parameters of input {name!r}"
    parameters = mapping_of(field_of(spec, "parameters", what), what)
    _refuse_shared_memory(parameters, f"input {name!r}")
    size = parameters.get("binary_data_size")
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
        array = numbers_in(data, np.dtype(NUMPY[datatype]), len(shape)).reshape(shape)
    except TypeError as exc:
        raise InvalidRequest(f"input {name!r}: elements of BYTES must be texts; send others as binary data") from exc
    except ValueError as exc:
        raise InvalidRequest(f"input {name!r}: the data does not fit {datatype} {list(shape)}") from exc
    return Tensor.from_numpy(name, array, datatype)


def json_data(tensor: Tensor) -> msgspec.Raw:
    """Return the list of a tensor's elements, in C order; raises `ProtocolViolation` when its bytes are no elements."""
    if tensor.datatype != "BYTES":
        return msgspec.Raw(json_of_numbers(tensor.to_numpy().ravel()))
    try:
        return msgspec.Raw(json_of_texts(tensor.elements()))
    except InvalidRequest as exc:  # the engine made it, not the client
        raise ProtocolViolation(f"the engine's output {tensor.name!r} is broken: {exc.message}") from exc


def _outputs(specs: Any) -> tuple[tuple[RequestedOutput, ...], dict[str, bool]]:
    outputs, by_name = [], {}
    if specs is not None and not isinstance(specs, list):
        raise InvalidRequest("'outputs' must be a list")
    if specs and len(specs) > MAX_TENSORS:
        raise InvalidRequest(f"there are {len(specs)} 'outputs'; there may be {MAX_TENSORS}")
    for spec in specs or ():
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str) or len(spec["name"]) > LONGEST_NAME:
            raise InvalidRequest(f"each of 'outputs' must have a name of at most {LONGEST_NAME} characters")
        parameters = mapping_of(spec.get("parameters"), "parameters of an output")
        _refuse_shared_memory(parameters, f"output {spec['name']!r}")
        outputs.append(RequestedOutput(spec["name"], number_of(parameters, "classification", 2**31 - 1) or 0))
        if "binary_data" in parameters:
            by_name[spec["name"]] = flag_of(parameters, "binary_data")
    return tuple(outputs), by_name


def _refuse_shared_memory(parameters: dict[str, Any], what: str) -> None:
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{what} is in shared memory, which a host has not with its clients: send it in the request")


def _sequence(parameters: dict[str, Any]) -> Sequence | None:
    start, end = flag_of(parameters, "sequence_start"), flag_of(parameters, "sequence_end")
    id: int | str | None
    if isinstance(parameters.get("sequence_id"), str):
        id = text_of(parameters, "sequence_id", 256)
    else:
        id = number_of(parameters, "sequence_id")
    return Sequence(id=id, start=start, end=end) if id else None
