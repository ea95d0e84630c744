"""The bytes of a response as a `Reply`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError

from adapter_api import ProtocolViolation
from adapter_api.task import ParameterValue
from triton_adapter.schema import RawTensor, Reply
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.contents import split_off_contents

_FINAL = "triton_final_response"

# Servers other than Triton may answer with typed contents: datatype -> (field, struct code).
_TYPED = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
}


def parse_stream_reply(data: bytes | memoryview) -> Reply:
    """Return the reply in a ModelStreamInferResponse; raises `ProtocolViolation` when it is none."""
    return stream_reply(stream_message(bytes(data)))


def stream_message(data: bytes) -> v2.ModelStreamInferResponse:
    """Return the protocol message; raises `ProtocolViolation` when it is none."""
    try:
        return v2.ModelStreamInferResponse.FromString(data)
    except DecodeError as exc:
        raise ProtocolViolation("the engine sent a stream message that does not parse") from exc


def stream_reply(message: v2.ModelStreamInferResponse) -> Reply:
    """Return what a stream message says; raises `ProtocolViolation` when its outputs and their contents do not fit."""
    response = message.infer_response
    reply = _reply(response, response.raw_output_contents)
    if message.error_message:
        reply.error = message.error_message
    return reply


def parse_reply(data: bytes | memoryview) -> Reply:
    """Return the reply in a ModelInferResponse; raises `ProtocolViolation` when it is none.

    The outputs of a message that is given as a view share its memory where they are large.
    """
    try:
        if isinstance(data, bytes):
            message = v2.ModelInferResponse.FromString(data)
            return _reply(message, message.raw_output_contents)
        head, contents = split_off_contents(data)
        return _reply(v2.ModelInferResponse.FromString(head), contents)
    except (DecodeError, ValueError) as exc:
        raise ProtocolViolation("the engine sent a response that does not parse") from exc


def _reply(message: v2.ModelInferResponse, raw: Sequence[bytes | memoryview]) -> Reply:
    tensors = message.outputs
    if len(raw) == len(tensors) == 1:
        # As most are.
        tensor = tensors[0]
        outputs = {tensor.name: RawTensor(tensor.datatype, tuple(tensor.shape), raw[0])}
    elif len(raw) == len(tensors):
        outputs = {
            tensor.name: RawTensor(tensor.datatype, tuple(tensor.shape), data)
            for tensor, data in zip(tensors, raw, strict=True)
        }
    elif not raw:
        outputs = {t.name: RawTensor(t.datatype, tuple(t.shape), _typed(t.datatype, t.contents)) for t in tensors}
    else:
        raise ProtocolViolation(f"the engine sent {len(tensors)} outputs but the contents of {len(raw)}")
    final: bool | None = None
    parameters: dict[str, ParameterValue] = {}
    for key, parameter in message.parameters.items():
        if key == _FINAL:
            final = parameter.bool_param
        else:
            parameters[key] = _value(parameter)
    return Reply(outputs, parameters=parameters, final=final, model_version=message.model_version)


def _value(parameter: v2.InferParameter) -> ParameterValue:
    choice = parameter.WhichOneof("choice")
    value: ParameterValue = getattr(parameter, choice) if choice else ""
    return value


def _typed(datatype: str, contents: v2.InferTensorContents) -> bytes:
    if datatype == "BYTES":
        return _framed(contents.bytes_contents)
    try:
        field, code = _TYPED[datatype]
    except KeyError:
        raise ProtocolViolation(f"the engine sent {datatype} contents in a form the protocol does not have") from None
    values = getattr(contents, field)
    try:
        return struct.pack(f"<{len(values)}{code}", *values)
    except struct.error as exc:
        raise ProtocolViolation(f"the engine sent {datatype} contents out of that type's range") from exc


def _framed(elements: Iterable[bytes]) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def parameter_values(parameters: Mapping[str, v2.InferParameter]) -> dict[str, ParameterValue]:
    """Return protocol parameters as plain values."""
    return {key: _value(parameter) for key, parameter in parameters.items()}
