"""Generic tensor work: any model, any datatype. No numpy is needed to hold a tensor, only to make one from an array."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from adapter_api.bounds import MAX_DIM, MAX_DIMS, MAX_NAME, MAX_PARAMETERS, MAX_TENSORS, MAX_TIMEOUT_S
from adapter_api.errors import InvalidRequest
from adapter_api.task import (
    BAGGAGE_LIMIT,
    HEADER_TEXT,
    TRACEPARENT,
    TRACESTATE_LIMIT,
    ParameterValue,
    TraceHeaders,
    new_job_id,
    require_parameter,
    trace_headers,
)

if TYPE_CHECKING:
    import numpy as np

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
]  # fmt: skip

_ITEM_SIZE = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
ITEM_SIZE: Mapping[str, int] = MappingProxyType(_ITEM_SIZE)
"""Bytes per element; BYTES has none: each element is a 4-byte little-endian length and that many bytes."""

_LENGTH_SIZE = 4

_NUMPY_TO_DATATYPE = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_DATATYPE_TO_NUMPY = {datatype: name for name, datatype in _NUMPY_TO_DATATYPE.items()}
_SMALL = 1024
"""Bytes of an array that are copied sooner than referred to."""
_PLAIN_DTYPES: dict[Any, Datatype] = {}
"""Of arrays that are raw as they are, those that were met: numpy takes long to tell the name of one."""
_LITTLE: dict[str, Any] = {}
"""The other way round."""


class Tensor(msgspec.Struct, frozen=True):
    """A named, typed, shaped array in the v2 protocol's raw form.

    `data` is little-endian, C order; BYTES elements are each prefixed with their length (4 bytes, little-endian). A
    view of somebody's memory is not copied: what it shows must not change before the inference is over.

    Raises:
        InvalidRequest: The shape is none that the v2 protocol can say, or does not fit the data.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        shape, size = self.shape, len(self.data)
        item_size = _ITEM_SIZE.get(self.datatype)
        # What is right, first: the rest finds out what is wrong.
        if shape and len(shape) <= MAX_DIMS and min(shape) > 0 and (elements := prod(shape)) <= MAX_DIM:
            if item_size is None:
                if elements * _LENGTH_SIZE <= size:
                    return
            elif elements * item_size == size:
                return
        self._check(item_size)

    def _check(self, item_size: int | None) -> None:
        if len(self.shape) > MAX_DIMS:
            raise InvalidRequest(f"tensor {self.name!r} has {len(self.shape)} dimensions; there may be {MAX_DIMS}")
        if min(self.shape, default=0) < 0:
            raise InvalidRequest(f"tensor {self.name!r}: shape {list(self.shape)} has a negative dimension")
        elements = prod(self.shape)
        if max(self.shape, default=0) > MAX_DIM or elements > MAX_DIM:
            raise InvalidRequest(f"tensor {self.name!r}: its shape holds more than {MAX_DIM} elements")
        if item_size is not None and elements * item_size != len(self.data):
            raise InvalidRequest(
                f"tensor {self.name!r}: {self.datatype} {list(self.shape)} takes "
                f"{elements * item_size} bytes, got {len(self.data)}"
            )
        # The framing is looked at by `elements`; here only whether it can be right.
        if item_size is None and (elements * _LENGTH_SIZE > len(self.data) or (not elements and self.data)):
            raise InvalidRequest(
                f"tensor {self.name!r}: BYTES {list(self.shape)} cannot be in {len(self.data)} bytes: each "
                f"element takes {_LENGTH_SIZE} and its own"
            )

    def __repr__(self) -> str:
        return f"Tensor(name={self.name!r}, datatype={self.datatype!r}, shape={self.shape!r}, <{len(self.data)} bytes>)"

    @classmethod
    def from_bytes_elements(cls, name: str, elements: list[bytes], shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a BYTES tensor of `elements` in C order; `shape` defaults to one dimension."""
        shape = (len(elements),) if shape is None else shape
        if prod(shape) != len(elements):
            raise InvalidRequest(f"tensor {name!r}: shape {list(shape)} does not hold {len(elements)} elements")
        return cls(name, "BYTES", shape, b"".join(len(e).to_bytes(4, "little") + e for e in elements))

    @classmethod
    def from_numpy(cls, name: str, array: np.ndarray[Any, Any], datatype: Datatype | None = None) -> Tensor:
        """Return the tensor of a numpy array.

        It shares the array's memory where that is contiguous, little-endian and no trifle: do not write to the array
        before the inference is over. `object`, `S` and `U` arrays become BYTES (text as UTF-8). BF16 takes an
        `ml_dtypes.bfloat16` array, or a float array with `datatype="BF16"`, which is rounded to nearest, ties to even.

        Raises:
            InvalidRequest: The array's dtype has no v2 datatype, or cannot be that `datatype`; or an `object` array
                holds something else than texts and bytes.
        """
        import numpy as np

        dtype = array.dtype
        plain = _PLAIN_DTYPES.get(dtype)
        if plain is not None and datatype in (None, plain) and array.nbytes <= _SMALL:
            return cls(name, plain, array.shape, array.tobytes())
        if dtype.kind in "OSU" and datatype in (None, "BYTES"):
            elements = [_element(name, e) for e in array.ravel().tolist()]
            return cls.from_bytes_elements(name, elements, array.shape)
        found = _NUMPY_TO_DATATYPE.get(dtype.name)
        if datatype == "BF16" and array.dtype.kind == "f" and found != "BF16":
            return cls(name, "BF16", array.shape, _round_to_bf16(array))
        if found is None or datatype not in (None, found):
            raise InvalidRequest(f"tensor {name!r}: numpy {array.dtype.name} cannot be {datatype or 'any v2 datatype'}")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.kind != "V" else array
        if found != "BF16" and dtype.isnative and sys.byteorder == "little":
            _PLAIN_DTYPES[dtype] = found  # type: ignore[assignment]
        return cls(name, found, array.shape, np.ascontiguousarray(little).reshape(-1).view(np.uint8).data.toreadonly())  # type: ignore[arg-type]

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Return the array: BYTES as objects of `bytes`, BF16 widened to float32 (numpy has no BF16).

        The array shares the tensor's memory where it can, and is then read-only.

        Raises:
            InvalidRequest: BYTES data is cut off or has too many or too few elements.
        """
        import numpy as np

        if self.datatype == "BYTES":
            array = np.empty(len(elements := self.elements()), dtype=object)
            array[:] = elements
            return array.reshape(self.shape)
        if self.datatype == "BF16":
            high = np.frombuffer(self.data, dtype="<u2").astype("<u4") << np.uint32(16)
            return high.view("<f4").reshape(self.shape)
        dtype = _LITTLE.get(self.datatype)
        if dtype is None:
            dtype = _LITTLE[self.datatype] = np.dtype(_DATATYPE_TO_NUMPY[self.datatype]).newbyteorder("<")
        return np.frombuffer(self.data, dtype=dtype).reshape(self.shape)

    def elements(self) -> list[bytes]:
        """Return the elements of a BYTES tensor in C order; raises `InvalidRequest` when its framing is broken."""
        data, offset, found = memoryview(self.data), 0, []
        while offset < len(data):
            size = int.from_bytes(data[offset : offset + 4], "little")
            end = offset + 4 + size
            if offset + 4 > len(data) or end > len(data):
                raise InvalidRequest(f"tensor {self.name!r}: BYTES data is cut off at byte {offset} of {len(data)}")
            found.append(bytes(data[offset + 4 : end]))
            offset = end
        if len(found) != prod(self.shape):
            raise InvalidRequest(f"tensor {self.name!r}: shape {list(self.shape)} but {len(found)} BYTES elements")
        return found


def _element(name: str, element: object) -> bytes:
    if isinstance(element, str):
        try:
            return element.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"tensor {name!r}: a text has half a character in it (a lone surrogate)") from None
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    # bytes(5) would be five zeros: a number has to be written as a text, or be in an array of numbers.
    raise InvalidRequest(
        f"tensor {name!r}: an object array becomes BYTES and takes texts and bytes, not {type(element).__name__}; "
        "give numbers a numeric dtype, as in array.astype('float32')"
    )


def _round_to_bf16(array: np.ndarray[Any, Any]) -> bytes:
    import numpy as np

    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    # Rounding would turn a NaN with low mantissa bits into an infinity: keep it a quiet NaN.
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(array), quiet, rounded).astype("<u2").tobytes()


class Sequence(msgspec.Struct, frozen=True, kw_only=True):
    """Which sequence a stateful inference belongs to; `start` on its first request, `end` on its last."""

    id: int | str
    start: bool = False
    end: bool = False


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output to return; `classification` asks for the top-k labels as BYTES `score:index[:label]` instead.

    `shape` is what the caller knows where the model declares a dimension as -1: it lets a large output go by shared
    memory. The answer may be smaller, not larger.
    """

    name: str
    classification: int = 0
    shape: tuple[int, ...] | None = None


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One inference on tensors. No `outputs` means all of them.

    Raises:
        InvalidRequest: `timeout_s` or `queue_timeout_s` is no number of seconds above 0 and up to
            `bounds.MAX_TIMEOUT_S`, `traceparent` is no W3C trace context, `tracestate` or `baggage` no text for a
            header, or there are more inputs, outputs or parameters than `bounds` allows.
    """

    model: str
    inputs: tuple[Tensor, ...]
    model_version: str | None = None
    outputs: tuple[RequestedOutput, ...] = ()
    request_id: str = msgspec.field(default_factory=new_job_id)
    parameters: Mapping[str, ParameterValue] = msgspec.field(default_factory=dict)
    sequence: Sequence | None = None
    priority: int | None = None
    timeout_s: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    baggage: str | None = None
    queue_timeout_s: float | None = None
    """The longest that it may wait for its turn, at a host and in the engine: `Overloaded` after that. What runs is not
    bounded by it."""

    @property
    def trace_headers(self) -> TraceHeaders:
        """The headers by which the trace goes on in the engine."""
        return trace_headers(self.traceparent, self.tracestate, self.baggage)

    def __post_init__(self) -> None:
        if self.timeout_s is not None or self.queue_timeout_s is not None:
            for name in ("timeout_s", "queue_timeout_s"):
                seconds: float | None = getattr(self, name)
                if seconds is not None and not 0 < seconds <= MAX_TIMEOUT_S:
                    raise InvalidRequest(
                        f"{name} is {seconds!r}; it must be a number of seconds above 0, {MAX_TIMEOUT_S:.0f} at most"
                    )
        if len(self.inputs) > MAX_TENSORS or len(self.outputs) > MAX_TENSORS or len(self.parameters) > MAX_PARAMETERS:
            for what, found, most in (
                ("inputs", self.inputs, MAX_TENSORS), ("outputs", self.outputs, MAX_TENSORS),
                ("parameters", self.parameters, MAX_PARAMETERS),
            ):  # fmt: skip
                if len(found) > most:
                    raise InvalidRequest(f"an inference has {len(found)} {what}; there may be {most}")
        if len(self.model) > MAX_NAME or (self.model_version is not None and len(self.model_version) > MAX_NAME):
            raise InvalidRequest(f"the name or version of the model is longer than {MAX_NAME} characters")
        if self.parameters:
            try:
                for name, value in self.parameters.items():
                    require_parameter(name, value)
            except ValueError as exc:
                raise InvalidRequest(f"parameters: {exc}") from exc
        if self.traceparent is self.tracestate is self.baggage is None:
            return
        if self.traceparent is not None and not re.fullmatch(TRACEPARENT, self.traceparent):
            raise InvalidRequest("traceparent is not a W3C trace context")
        for header, text, limit in (
            ("tracestate", self.tracestate, TRACESTATE_LIMIT), ("baggage", self.baggage, BAGGAGE_LIMIT),
        ):  # fmt: skip
            if text is not None and (len(text) > limit or not re.fullmatch(HEADER_TEXT, text)):
                raise InvalidRequest(f"{header} must be at most {limit} characters of printable ASCII")

    def __repr__(self) -> str:
        # Parameters by their names only: a value may be a text that nobody else may read.
        parameters = f"<{', '.join(sorted(self.parameters))}>"
        return (
            f"InferRequest(model={self.model!r}, model_version={self.model_version!r}, request_id={self.request_id!r}, "
            f"inputs={self.inputs!r}, outputs={self.outputs!r}, parameters={parameters}, sequence={self.sequence!r}, "
            f"priority={self.priority!r}, timeout_s={self.timeout_s!r}, queue_timeout_s={self.queue_timeout_s!r})"
        )


class InferResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. Look outputs up by name: their order is the model's, not the request's."""

    model: str
    model_version: str | None = None
    request_id: str = ""
    outputs: tuple[Tensor, ...] = ()
    parameters: Mapping[str, ParameterValue] = msgspec.field(default_factory=dict)
    final: bool = True

    def __getitem__(self, name: str) -> Tensor:
        """Return the output of that name; raises `KeyError` naming those there are."""
        for tensor in self.outputs:
            if tensor.name == name:
                return tensor
        raise KeyError(f"no output {name!r}; the model returned {[tensor.name for tensor in self.outputs]}")
