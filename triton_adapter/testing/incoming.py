"""What the server checks while it takes a ModelInferRequest apart, in its order and its words.

The words are those of Triton 2.51; the same tests are run against that server and the fake.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from adapter_api.task import ParameterValue
from triton_adapter.wire import v2_pb2 as v2

from .failure import TritonFailure

EMPTY_FINAL = "triton_enable_empty_final_response"
_INT64_MAX = 2**63 - 1
# Field of InferTensorContents -> how an error names it, the datatypes that may use it, and their struct codes.
_TYPED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "bool_contents": ("BOOL", {"BOOL": "?"}),
    "int_contents": ("INT32", {"INT8": "b", "INT16": "h", "INT32": "i"}),
    "int64_contents": ("INT64", {"INT64": "q"}),
    "uint_contents": ("UINT32", {"UINT8": "B", "UINT16": "H", "UINT32": "I"}),
    "uint64_contents": ("UINT64", {"UINT64": "Q"}),
    "fp32_contents": ("FP32", {"FP32": "f"}),
    "fp64_contents": ("FP64", {"FP64": "d"}),
    "bytes_contents": ("BYTES", {"BYTES": ""}),
}
_PARAMETER_TYPES: Mapping[str, tuple[str, ...]] = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": ("int64_param", "uint64_param"),
    "timeout": ("int64_param",),
    EMPTY_FINAL: ("bool_param",),
}
_CUSTOM_TYPES = ("int64_param", "bool_param", "string_param", "double_param")


class RawInput(NamedTuple):
    """One input as it came, not yet known to be what the model takes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


def requested_version(text: str) -> int | None:
    """Return the version asked for, read as C's `strtol` does; `None` for the latest."""
    if not text:
        return None
    found = re.match(r"\s*[+-]?\d+", text)
    version = int(found.group()) if found else _INT64_MAX + 1
    if abs(version) > _INT64_MAX:
        raise _invalid(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        )
    if version < 0:
        raise _invalid(f"invalid model version specified '{text}' , version should be an integral value > 0")
    return version


def read_parameters(parameters: Mapping[str, v2.InferParameter]) -> dict[str, ParameterValue]:
    """Return request parameters as plain values, those of the protocol too."""
    values: dict[str, ParameterValue] = {}
    for key, parameter in parameters.items():
        if key.startswith("triton_") and key != EMPTY_FINAL:
            raise _invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
                f"starting with 'triton_' are allowed: {EMPTY_FINAL}"
            )
        choice = parameter.WhichOneof("choice")
        allowed = _PARAMETER_TYPES.get(key, _CUSTOM_TYPES)
        if choice not in allowed:
            expected = "int64_param, bool_param, or string_param" if allowed is _CUSTOM_TYPES else " or ".join(allowed)
            raise _invalid(f"invalid value type for '{key}' parameter, expected {expected}.")
        values[key] = getattr(parameter, choice)
        if key == "priority" and int(values[key]) < 0:
            raise _invalid("invalid value for 'priority', expected value >= 0.")
    return values


def read_inputs(request: v2.ModelInferRequest) -> list[RawInput]:
    """Return the inputs with their bytes, wherever in the message those were."""
    names = [tensor.name for tensor in request.inputs]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _invalid(f"{request_tag(request.id)}input '{name}' already exists in request")
    raw = iter(request.raw_input_contents) if request.raw_input_contents else None
    inputs = []
    for tensor in request.inputs:
        if "shared_memory_region" in tensor.parameters:
            region = tensor.parameters["shared_memory_region"].string_param
            raise TritonFailure("NOT_FOUND", f"Unable to find shared memory region: '{region}'")
        data = _typed(request, tensor) if raw is None else _raw(request, tensor, raw)
        inputs.append(RawInput(tensor.name, tensor.datatype, tuple(tensor.shape), data))
    return inputs


def request_tag(request_id: str) -> str:
    return f"[request id: {request_id or '<id_unknown>'}] "


def _raw(request: v2.ModelInferRequest, tensor: v2.ModelInferRequest.InferInputTensor, raw: Iterable[bytes]) -> bytes:
    if tensor.HasField("contents"):
        raise _invalid(
            f"contents field must not be specified when using raw_input_contents for '{tensor.name}' for model "
            f"'{request.model_name}'"
        )
    for data in raw:
        return data
    raise _no_data(request, tensor)


def _typed(request: v2.ModelInferRequest, tensor: v2.ModelInferRequest.InferInputTensor) -> bytes:
    used = [field for field in _TYPED if len(getattr(tensor.contents, field))]
    if not used:
        raise _no_data(request, tensor)
    described, codes = _TYPED[used[0]]
    values = getattr(tensor.contents, used[0])
    if tensor.datatype not in codes:
        raise _invalid(
            f"unexpected explicit tensor data for input tensor '{tensor.name}' for model '{request.model_name}' of "
            f"type '{described}', expected datatype '{tensor.datatype}'"
        )
    if tensor.datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)
    code = codes[tensor.datatype]
    size = 8 * struct.calcsize(code)
    # As a C cast does: what does not fit wraps around.
    fitting = [value % 2**size for value in values] if code in "bhBH" else values
    return struct.pack(f"<{len(values)}{code.upper() if code in 'bh' else code}", *fitting)


def _no_data(request: v2.ModelInferRequest, tensor: v2.ModelInferRequest.InferInputTensor) -> TritonFailure:
    return _invalid(
        f"unable to find data for input tensor '{tensor.name}' for model '{request.model_name}' in request."
    )


def _invalid(text: str) -> TritonFailure:
    return TritonFailure("INVALID_ARGUMENT", text)
