"""Tensors and requests in the JSON and binary form of the HTTP protocol, with the server's words for what is wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from adapter_api.tensors import ITEM_SIZE, Tensor
from triton_adapter.wire import v2_pb2 as v2

from .failure import TritonFailure
from .incoming import RawInput

_CODES = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP32": "f", "FP64": "d",
}  # fmt: skip
_KINDS = {"B": "non-boolean as boolean", "U": "non-unsigned-integer as unsigned-integer",
          "I": "non-signed-integer as signed-integer", "F": "non-number as double"}  # fmt: skip


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; text may hold bytes that are no UTF-8."""
    try:
        parsed = json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise TritonFailure("INTERNAL", f"failed to parse the request JSON buffer: {error}") from error
    return parsed if isinstance(parsed, dict) else {}


def dump(value: Any) -> bytes:
    """Return `value` as JSON the way Triton writes it: bytes that are no UTF-8 go through as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def member(parsed: Mapping[str, Any], key: str, kind: type, described: str) -> Any:
    """Return `parsed[key]`, which must be there and of that kind."""
    if key not in parsed:
        raise _unparsable(key, f"attempt to access non-existing object member '{key}'")
    if not isinstance(parsed[key], kind):
        raise _unparsable(key, f"attempt to access JSON non-{described} as {described}")
    return parsed[key]


def read_request(parsed: Mapping[str, Any], binary: bytes, model: str) -> tuple[v2.ModelInferRequest, list[RawInput]]:
    """Return an infer request in the terms of gRPC, and its inputs."""
    request = v2.ModelInferRequest(model_name=model)
    if "id" in parsed:
        request.id = member(parsed, "id", str, "string")
    add_parameters(request, parsed.get("parameters", {}))
    inputs = []
    offset = 0
    for given in member(parsed, "inputs", list, "array"):
        made, used = _read_input(given, binary[offset:], model)
        offset += used
        inputs.append(made)
    if offset < len(binary):
        raise _invalid(f"unexpected additional input data for model '{model}'")
    for asked in parsed.get("outputs", []):
        request.outputs.add(name=member(asked, "name", str, "string"))
    return request, inputs


def add_parameters(request: v2.ModelInferRequest, parameters: Mapping[str, Any]) -> None:
    """Set request parameters from JSON; those of the protocol have their own types."""
    for key, value in parameters.items():
        into = request.parameters[key]
        if key.startswith("triton_"):
            raise _invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."
            )
        if key in ("timeout", "priority") and (isinstance(value, bool) or not isinstance(value, int)):
            raise _unparsable(key, f"attempt to access JSON {_KINDS['U']}")
        if isinstance(value, bool):
            into.bool_param = value
        elif isinstance(value, int):
            into.int64_param = value
        elif isinstance(value, float):
            into.double_param = value
        elif isinstance(value, str):
            into.string_param = value
        else:
            raise _invalid(f"parameter '{key}' has invalid type. It should be either 'int', 'bool', or 'string'.")


def elements(datatype: str, values: Sequence[Any]) -> bytes:
    """Return JSON values as raw data of that datatype."""
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in values):
            raise TritonFailure(
                "INTERNAL", "Unable to parse JSON bytes array: attempt to access JSON non-string as string"
            )
        encoded = [value.encode("utf-8", "surrogateescape") for value in values]
        return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
    wanted: tuple[type, ...] = (bool,) if datatype == "BOOL" else (int, float) if datatype[0] == "F" else (int,)
    if not all(isinstance(value, wanted) and (isinstance(value, bool) == (wanted == (bool,))) for value in values):
        raise _unparsable("data", f"attempt to access JSON {_KINDS[datatype[0]]}")
    return struct.pack(f"<{len(values)}{_CODES[datatype]}", *values)


def flat(value: Any) -> list[Any]:
    """Return the leaves of nested lists."""
    if not isinstance(value, list):
        return [value]
    return [leaf for item in value for leaf in flat(item)]


def json_values(tensor: Tensor) -> list[Any]:
    """Return the elements of an output for JSON."""
    if tensor.datatype in ("FP16", "BF16"):
        raise _invalid(
            f"sending {tensor.datatype} data via JSON is not supported. Please use the binary data format for output"
        )
    if tensor.datatype == "BYTES":
        return [element.decode("utf-8", "surrogateescape") for element in tensor.elements()]
    return list(struct.unpack(f"<{prod(tensor.shape)}{_CODES[tensor.datatype]}", tensor.data))


def _read_input(given: Mapping[str, Any], binary: bytes, model: str) -> tuple[RawInput, int]:
    name = member(given, "name", str, "string")
    datatype = member(given, "datatype", str, "string")
    shape = tuple(member(given, "shape", list, "array"))
    if datatype not in ITEM_SIZE and datatype != "BYTES":
        raise _invalid(f"invalid datatype for input {name}")
    size = given.get("parameters", {}).get("binary_data_size")
    if size is not None:
        if size > len(binary):
            missing = size - len(binary)
            raise _invalid(
                f"unexpected size for input '{name}', expecting {missing} additional bytes for model '{model}'"
            )
        return RawInput(name, datatype, shape, binary[:size]), size
    if "data" not in given:
        raise _invalid(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But no field is set"
        )
    if datatype in ("FP16", "BF16"):
        raise _invalid(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input {name}"
        )
    values = flat(given["data"])
    if len(values) != prod(shape):
        raise _unparsable("data", "Shape does not match true shape of 'data' field")
    return RawInput(name, datatype, shape, elements(datatype, values)), 0


def _unparsable(key: str, why: str) -> TritonFailure:
    return TritonFailure("INTERNAL", f"Unable to parse '{key}': {why}")


def _invalid(text: str) -> TritonFailure:
    return TritonFailure("INVALID_ARGUMENT", text)
