"""The `stop` request of TensorRT-LLM's models: a second request of the same id that ends the first."""

from __future__ import annotations

from adapter_api import AdapterError, Tensor
from adapter_api.tensors import ITEM_SIZE
from triton_adapter.engine.engine import Engine
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.transports.base import settle
from triton_adapter.wire.request import WireRequest

_LIMIT_S = 2.0


def takes_stop(schema: ModelSchema) -> bool:
    """Return whether the model is one of those: raw token ids, or the LLM API's."""
    stop = schema.inputs.get("stop")
    family = "input_ids" in schema.inputs or "sampling_param_max_tokens" in schema.inputs
    return stop is not None and stop.datatype == "BOOL" and family


async def stop_targets(engine: Engine, schema: ModelSchema) -> list[ModelSchema]:
    """Return the models that would understand a stop request for a task of `schema`: itself, or members of an ensemble.

    An ensemble passes the request's id down to its members, so that they can be asked by the same id.
    """
    if takes_stop(schema):
        return [schema]
    found = []
    for step in schema.ensemble_steps:
        try:
            member = await engine.schemas.get(step)
        except AdapterError:
            continue
        if takes_stop(member):
            found.append(member)
    return found


async def ask_to_stop(engine: Engine, targets: list[ModelSchema], request_id: str) -> None:
    """Send the stop request to each target. Its answer does not matter: some models answer with an error."""
    for schema in targets:
        request = stop_request(schema, request_id)
        try:
            if schema.decoupled:
                call = await engine.transport.stream(request, timeout_s=_LIMIT_S)
                if not await settle(call):
                    call.cancel()
            else:
                await engine.transport.infer(request, timeout_s=_LIMIT_S)
        except AdapterError:
            continue


def stop_request(schema: ModelSchema, request_id: str) -> WireRequest:
    """Return the request: `stop` is true, the other required inputs are there but mean nothing."""
    required = [spec for spec in schema.inputs.values() if not spec.optional and spec.name != "stop"]
    stop = schema.inputs["stop"]
    inputs = (_filled(stop, b"\x01", schema), *(_filled(spec, _nothing(spec), schema) for spec in required))
    return WireRequest(schema.name, inputs, request_id=request_id, empty_final_response=schema.decoupled, schema=schema)


def _filled(spec: TensorSpec, data: bytes, schema: ModelSchema) -> Tensor:
    shape = (1,) * (len(spec.dims) + schema.batched)
    return Tensor(spec.name, spec.datatype, shape, data)  # type: ignore[arg-type]


def _nothing(spec: TensorSpec) -> bytes:
    return bytes(4) if spec.datatype == "BYTES" else bytes(ITEM_SIZE[spec.datatype])
