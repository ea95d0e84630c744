"""What arrived at the fake, for a test to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapter_api.task import ParameterValue
from adapter_api.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request came.

    Attributes:
        transport: The protocol below.
        call: The method, such as ModelStreamInfer or generate_stream.
        metadata: gRPC metadata, or HTTP headers in lower case.
        timeout_s: Seconds the client's deadline left on arrival; `None` without one.
    """

    transport: Literal["grpc", "http"]
    call: str
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One inference request as it arrived, also one that was refused."""

    model: str
    version: str
    id: str
    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, ParameterValue]
    outputs: tuple[str, ...]
    """The outputs asked for by name; empty for all."""
    origin: Origin

    def value(self, name: str, default: Any = None) -> Any:
        """Return the input's elements, text decoded: the element itself if there is one, else a flat list."""
        tensor = self.inputs.get(name)
        if tensor is None:
            return default
        if tensor.datatype == "BYTES":
            elements = [element.decode("utf-8", "surrogateescape") for element in tensor.elements()]
        else:
            elements = tensor.to_numpy().reshape(-1).tolist()
        return elements[0] if len(elements) == 1 else elements

    def text(self, name: str = "text_input") -> str:
        """Return the one element of a BYTES input; raises `KeyError` when it was not sent."""
        return str(self.value(name)) if name in self.inputs else str(self.inputs[name])


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of the server's API, of whatever kind."""

    origin: Origin
    model: str = ""
