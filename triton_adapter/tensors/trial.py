"""An inference made up from what a model declares, to find out whether it answers at all."""

from __future__ import annotations

from contextlib import aclosing
from math import prod

from adapter_api import EngineFailed, InferRequest, InvalidRequest, Overloaded, Tensor, Unsupported
from adapter_api.tensors import ITEM_SIZE
from triton_adapter.engine.engine import Engine
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.tensors.inference import infer, infer_stream

_LARGEST = 1 << 22
"""Bytes of an input that may be made up."""


async def answers(engine: Engine, model: str, *, timeout_s: float) -> bool:
    """Send a model zeros and empty texts; return whether that could be tried.

    A refusal, and an exception of the model's own code, are answers as well: somebody is there.

    Raises:
        AdapterError: Nobody answered.
    """
    schema = await engine.schemas.get(model)
    request = made_up(schema, timeout_s=timeout_s)
    if request is None:
        return False
    try:
        if not schema.decoupled:
            await infer(engine, request)
            return True
        async with aclosing(infer_stream(engine, request)) as responses:  # type: ignore[type-var]
            async for _ in responses:
                break
        return True
    except (InvalidRequest, Unsupported, Overloaded):
        return True
    except EngineFailed:
        if engine.failure_of(model) is not None:
            raise
        return True


def made_up(schema: ModelSchema, *, timeout_s: float) -> InferRequest | None:
    """Return the smallest request that a model's declaration allows; `None` where a stray one may do harm."""
    if schema.scheduling == "sequence_batching":
        return None
    tensors = [_zeros(spec, batched=schema.batched) for spec in schema.inputs.values() if not spec.optional]
    inputs = tuple(tensor for tensor in tensors if tensor is not None)
    if len(inputs) < len(tensors):
        return None
    return InferRequest(model=schema.name, inputs=inputs, timeout_s=timeout_s)


def _zeros(spec: TensorSpec, *, batched: bool) -> Tensor | None:
    shape = (*((1,) if batched else ()), *(1 if size < 0 else size for size in spec.dims))
    count = prod(shape)
    size = 4 if spec.datatype == "BYTES" else ITEM_SIZE.get(spec.datatype)
    if size is None or count * size > _LARGEST:
        return None
    return Tensor(spec.name, spec.datatype, shape, bytes(count * size))  # type: ignore[arg-type]
