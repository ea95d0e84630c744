"""An inference as the bytes of a ModelInferRequest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Sequence_
from dataclasses import dataclass

import msgspec

from adapter_api import InvalidRequest, RequestedOutput, Sequence, Tensor
from adapter_api.task import ParameterValue
from triton_adapter.schema import ModelSchema
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.varint import SHORT, varint

_INT64 = range(-(2**63), 2**63)
_ID_TAG = b"\x1a"  # field 3, length-delimited
_RAW_INPUT_TAG = b"\x3a"  # field 7, length-delimited


@dataclass(frozen=True, slots=True)
class ShmRef:
    """Where a tensor lies in a registered shared-memory region; its bytes do not travel then."""

    region: str
    byte_size: int
    offset: int = 0


class Constant:
    """What is the same in the messages of many requests, which differ in their ids and in the data of inputs.

    Made by the first of them that is serialized.
    """

    __slots__ = ("after", "before", "varying")

    def __init__(self, varying: int | None = None) -> None:
        self.varying = varying
        """The place of the one input that differs; `None`: all do."""
        self.before: bytes | None = None
        """All that comes before the id and those inputs' data; the id may stand anywhere in a message."""
        self.after = b""


class WireRequest(msgspec.Struct, frozen=True, gc=False):
    """All that goes into one ModelInfer or ModelStreamInfer message.

    A msgspec struct because one is made per task: a tenth of a frozen dataclass's price.
    """

    model: str
    inputs: tuple[Tensor, ...]
    version: str = ""
    request_id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, ParameterValue] = {}
    sequence: Sequence | None = None
    priority: int | None = None
    queue_timeout_us: int | None = None
    empty_final_response: bool = False
    """Ask for a closing message even when the model ends without data. Only on streams."""
    shm_inputs: Mapping[str, ShmRef] = {}
    shm_outputs: Mapping[str, ShmRef] = {}
    private: Callable[[], Sequence_[str]] = tuple
    """What must not appear in an error, asked for only when there is one. Not sent."""
    schema: ModelSchema | None = None
    """What the model declares, for a way that names neither datatypes nor shapes. Not sent."""
    constant: Constant | None = None
    """What this request's message has in common with others. Only without shared memory and queue timeout."""

    def __repr__(self) -> str:
        # No parameter by its value: that may be a text that nobody else may read.
        return f"WireRequest({self.model!r}, {self.inputs!r}, request_id={self.request_id!r})"


def check_parameters(parameters: Mapping[str, ParameterValue]) -> None:
    """Refuse a caller's parameter that belongs to the protocol; raises `InvalidRequest` naming it."""
    for key, value in parameters.items():
        if key.startswith("triton_") or key in _OURS:
            raise InvalidRequest(f"request parameter {key!r} is reserved by Triton; use the request's own field")
        if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
            raise InvalidRequest(f"request parameter {key!r} does not fit 64 bits")


_OURS = frozenset(
    {
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "binary_data_output",
        "shared_memory_region",
        "shared_memory_byte_size",
        "shared_memory_offset",
    }
)


def serialize(request: WireRequest) -> bytes:
    """Return the message's bytes. Tensor data is copied once, straight into them."""
    return b"".join(serialized(request))


def serialized(request: WireRequest) -> list[bytes | memoryview]:
    """Return the message in parts, of which the data of tensors is their own."""
    constant = request.constant
    if constant is None:
        return _serialized(request, request.request_id)
    varying = constant.varying
    if constant.before is None:
        head, *raw = _serialized(request, "")
        at = 3 * varying if varying is not None else 0
        constant.after = b"".join(raw[at + 3 :]) if varying is not None else b""
        constant.before = b"".join((head, *raw[:at]))
    name = request.request_id.encode()
    size = len(name)
    parts: list[bytes | memoryview] = [constant.before, _ID_TAG, SHORT[size] if size < 0x80 else varint(size), name]
    if varying is None:
        for tensor in request.inputs:
            parts += (_RAW_INPUT_TAG, varint(len(tensor.data)), tensor.data)
        return parts
    data = request.inputs[varying].data
    size = len(data)
    parts += (_RAW_INPUT_TAG, SHORT[size] if size < 0x80 else varint(size), data, constant.after)
    return parts


def _serialized(request: WireRequest, request_id: str) -> list[bytes | memoryview]:
    message = v2.ModelInferRequest(model_name=request.model, model_version=request.version, id=request_id)
    parameters = message.parameters
    for key, value in request.parameters.items():
        _set(parameters[key], value)
    if request.empty_final_response:
        parameters["triton_enable_empty_final_response"].bool_param = True
    if request.sequence is not None:
        _set(parameters["sequence_id"], request.sequence.id)
        parameters["sequence_start"].bool_param = request.sequence.start
        parameters["sequence_end"].bool_param = request.sequence.end
    if request.priority is not None:
        parameters["priority"].int64_param = request.priority
    if request.queue_timeout_us is not None:
        parameters["timeout"].int64_param = request.queue_timeout_us
    raw = _add_inputs(message, request)
    _add_outputs(message, request)
    return [message.SerializeToString(), *raw]


def _add_inputs(message: v2.ModelInferRequest, request: WireRequest) -> list[bytes | memoryview]:
    raw: list[bytes | memoryview] = []
    for tensor in request.inputs:
        place = request.shm_inputs.get(tensor.name)
        entry = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if place is not None:
            _refer(entry.parameters, place)
            continue
        # Written by hand after the rest: through the message object it would be copied twice more.
        raw += (_RAW_INPUT_TAG, varint(len(tensor.data)), tensor.data)
    return raw


def _add_outputs(message: v2.ModelInferRequest, request: WireRequest) -> None:
    for output in request.outputs:
        entry = message.outputs.add(name=output.name)
        if output.classification:
            entry.parameters["classification"].int64_param = output.classification
        place = request.shm_outputs.get(output.name)
        if place is not None:
            _refer(entry.parameters, place)


def _refer(parameters: Mapping[str, v2.InferParameter], place: ShmRef) -> None:
    parameters["shared_memory_region"].string_param = place.region
    parameters["shared_memory_byte_size"].int64_param = place.byte_size
    if place.offset:
        parameters["shared_memory_offset"].int64_param = place.offset


def _set(parameter: v2.InferParameter, value: ParameterValue) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if value in _INT64:
            parameter.int64_param = value
        else:
            parameter.uint64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
