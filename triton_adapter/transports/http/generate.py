"""An inference that streams as HTTP has it: an object of the model's own names there, events of such objects back.

`generate_stream` names neither datatypes nor shapes: both are the model's declared ones. No I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import ProtocolViolation, Unsupported
from triton_adapter.codec import input_elements, json_elements, raw_elements
from triton_adapter.schema import ModelSchema, RawTensor, Reply, TensorSpec
from triton_adapter.transports.http.failures import words_of
from triton_adapter.transports.http.json_text import decode
from triton_adapter.transports.http.tensors import scalars
from triton_adapter.wire.request import WireRequest

_WAY = "generate_stream"
_TAKEN_ON_THE_WAY_THERE = frozenset({"id", "parameters"})
_TAKEN_ON_THE_WAY_BACK = frozenset({"error", "id", "model_name", "model_version"})


def encode_generation(request: WireRequest, schema: ModelSchema) -> bytes:
    """Return the body of a request to `generate_stream`.

    Raises:
        Unsupported: It has something that this way cannot carry; the message names it.
        InvalidRequest: An input has another shape than the server would give it.
    """
    _refuse_what_cannot_travel(request, schema)
    body: dict[str, Any] = {}
    for tensor in request.inputs:
        values = json_elements(tensor, way=_WAY, half=False)
        spec = schema.inputs.get(tensor.name)
        if spec is None:
            # It would become a parameter, and nobody would notice.
            raise Unsupported(f"model {request.model!r} declares no input {tensor.name!r}")
        body[tensor.name] = input_elements(tensor, values, _declared(spec, schema))
    if request.request_id:
        body["id"] = request.request_id
    if request.parameters:
        body["parameters"] = dict(request.parameters)
    return msgspec.json.encode(body)


class EventReader:
    """Makes replies of the events of one stream. Stateless but for what the model declares."""

    __slots__ = ("_datatypes", "_wanted")

    def __init__(self, request: WireRequest, schema: ModelSchema) -> None:
        self._datatypes = {name: spec.datatype for name, spec in schema.outputs.items()}
        self._wanted = frozenset(output.name for output in request.outputs) or frozenset(self._datatypes)

    def reply(self, data: str | bytes, kind: str = "message") -> Reply:
        """Return the reply in an event's data, whose name is `kind`.

        Raises:
            ProtocolViolation: It is none.
        """
        try:
            said = decode(data)
        except ValueError:
            if kind == "error":
                return _refusal(data if isinstance(data, str) else data.decode("utf-8", "replace"))
            raise ProtocolViolation("the engine sent an event that is no JSON") from None
        if kind == "error":
            return _refusal(said)
        if not isinstance(said, dict):
            raise ProtocolViolation("the engine sent an event that is no JSON object")
        if said.get("error") or ("error" in said and self._datatypes.keys().isdisjoint(said)):
            return _refusal(said["error"])
        outputs: dict[str, RawTensor] = {}
        others: dict[str, Any] = {}
        version = ""
        for name, value in said.items():
            datatype = self._datatypes.get(name)
            if datatype is not None:
                if name in self._wanted:
                    raw, count = raw_elements(name, datatype, value)
                    outputs[name] = RawTensor(datatype, (count,), raw)
            elif name == "model_version":
                version = str(value)
            elif name not in _TAKEN_ON_THE_WAY_BACK:
                others[name] = value
        if not outputs and "model_name" not in said and self._datatypes.keys().isdisjoint(said):
            raise ProtocolViolation(
                f"the engine sent an event that is no reply, with {', '.join(said)[:80] or 'nothing'}"
            )
        return Reply(outputs, scalars(others) if others else {}, model_version=version)


def _refusal(said: Any) -> Reply:
    # More may follow, and nothing says whether it does.
    return Reply({}, error=words_of(said) or "the engine failed, and gave no reason", final=False)


def _declared(spec: TensorSpec, schema: ModelSchema) -> tuple[int, ...]:
    return (-1, *spec.dims) if schema.batched else spec.dims


def _refuse_what_cannot_travel(request: WireRequest, schema: ModelSchema) -> None:
    refused = ""
    if request.sequence is not None:
        refused = "sequences"
    elif request.priority is not None:
        refused = "priorities"
    elif any(output.classification for output in request.outputs):
        refused = "classification"
    elif request.shm_inputs or request.shm_outputs:
        refused = "shared memory"
    elif taken := _TAKEN_ON_THE_WAY_THERE & schema.inputs.keys() | _TAKEN_ON_THE_WAY_BACK & schema.outputs.keys():
        refused = f"a tensor called {sorted(taken)[0]!r}"
    if refused:
        raise Unsupported(f"model {request.model!r} streams, and over HTTP {_WAY} has no place for {refused}; use gRPC")
