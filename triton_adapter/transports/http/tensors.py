"""An inference on tensors as HTTP has it: JSON, and binary tensors after it where the server takes them. No I/O.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import ProtocolViolation, RequestedOutput, Tensor
from adapter_api.task import ParameterValue
from triton_adapter.codec import json_elements, raw_elements
from triton_adapter.schema import RawTensor, Reply
from triton_adapter.transports.http.json_text import decode
from triton_adapter.wire.request import ShmRef, WireRequest

HEAD_LENGTH = "inference-header-content-length"
"""The header that says how long the JSON is, on requests and answers with binary tensors."""
BINARY = "binary_tensor_data"
"""The extension that a server lists when it takes such."""

Buffer = bytes | memoryview
_DIGITS = 19
"""Of lengths that can be: what has more is no number to reckon with."""


def encode_inference(request: WireRequest, *, binary: bool) -> tuple[list[Buffer], int | None]:
    """Return the body of an inference, and how long its JSON is when tensors follow it.

    Args:
        request: What to ask for.
        binary: Whether the server takes binary tensors.

    Raises:
        Unsupported: It takes none, and JSON cannot carry an input.
    """
    parameters: dict[str, Any] = dict(request.parameters)
    if request.sequence is not None:
        parameters["sequence_id"] = request.sequence.id
        parameters["sequence_start"], parameters["sequence_end"] = request.sequence.start, request.sequence.end
    if request.priority is not None:
        parameters["priority"] = request.priority
    if request.queue_timeout_us is not None:
        parameters["timeout"] = request.queue_timeout_us
    if binary and not request.outputs:
        parameters["binary_data_output"] = True
    inputs, blobs = [], []
    for tensor in request.inputs:
        entry, blob = _input(tensor, request.shm_inputs.get(tensor.name), binary=binary)
        inputs.append(entry)
        if blob is not None:
            blobs.append(blob)
    head: dict[str, Any] = {"inputs": inputs}
    if request.request_id:
        head["id"] = request.request_id
    if parameters:
        head["parameters"] = parameters
    if request.outputs:
        head["outputs"] = [_asked(each, request.shm_outputs.get(each.name), binary) for each in request.outputs]
    encoded = msgspec.json.encode(head)
    return [encoded, *blobs], len(encoded) if binary else None


def decode_inference(headers: Mapping[str, str], body: bytes | bytearray) -> Reply:
    """Return the reply in an answer.

    Raises:
        ProtocolViolation: It is none.
    """
    length = headers.get(HEAD_LENGTH)
    size = len(body) if length is None else int(length) if length.isdecimal() and len(length) < _DIGITS else -1
    if not 0 < size <= len(body):
        raise ProtocolViolation(f"the engine sent an answer whose header {HEAD_LENGTH} is not the length of its JSON")
    try:
        said = decode(body if size == len(body) else body[:size])
        return _reply(said, memoryview(body)[size:])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ProtocolViolation("the engine sent a response that does not parse") from None


def _input(tensor: Tensor, place: ShmRef | None, *, binary: bool) -> tuple[dict[str, Any], Buffer | None]:
    entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if place is not None:
        entry["parameters"] = _reference(place)
        return entry, None
    if binary:
        entry["parameters"] = {"binary_data_size": len(tensor.data)}
        return entry, tensor.data
    entry["data"] = json_elements(tensor, way="the JSON that this server speaks over HTTP")
    return entry, None


def _asked(output: RequestedOutput, place: ShmRef | None, binary: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = _reference(place) if place is not None else {"binary_data": True} if binary else {}
    if output.classification:
        parameters["classification"] = output.classification
    return {"name": output.name, "parameters": parameters} if parameters else {"name": output.name}


def _reference(place: ShmRef) -> dict[str, Any]:
    found: dict[str, Any] = {"shared_memory_region": place.region, "shared_memory_byte_size": place.byte_size}
    return {**found, "shared_memory_offset": place.offset} if place.offset else found


def _reply(said: Mapping[str, Any], tail: memoryview) -> Reply:
    outputs: dict[str, RawTensor] = {}
    at = 0
    for output in said["outputs"]:
        name, datatype, parameters = str(output["name"]), str(output["datatype"]), output.get("parameters") or {}
        shape = tuple(output["shape"])
        if not all(type(dim) is int and dim >= 0 for dim in shape):
            raise ProtocolViolation(f"the engine sent output {name!r} in a shape that is none")
        size = parameters.get("binary_data_size")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(tail) - at:
                raise ProtocolViolation(f"the engine sent output {name!r} without all of its bytes")
            data = bytes(tail[at : at + size])
            at += size
        elif "data" in output:
            data, _ = raw_elements(name, datatype, output["data"])
        else:
            data = b""  # it lies in shared memory
        outputs[name] = RawTensor(datatype, shape, data)
    if at != len(tail):
        raise ProtocolViolation(f"the engine sent {len(tail) - at} bytes that belong to no output")
    version = said.get("model_version")
    return Reply(outputs, scalars(said.get("parameters") or {}), model_version="" if version is None else str(version))


def scalars(parameters: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """Return the parameters of an answer that are values of the contract."""
    return {key: value for key, value in parameters.items() if isinstance(value, bool | int | float | str)}
