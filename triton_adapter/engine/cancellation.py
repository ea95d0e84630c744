"""What a cancel can promise with a model."""

from __future__ import annotations

from adapter_api import CancelMode
from triton_adapter.schema import ModelSchema
from triton_adapter.transports.base import Traits

# An execution of theirs runs to its end whatever the client does; a cancelled request still in the queue runs too.
_UNINTERRUPTIBLE = frozenset(
    {"onnxruntime", "openvino", "pytorch", "tensorflow", "tensorrt", "dali", "fil", "identity"}
)  # fmt: skip

# Dynamo hands a cancel to the worker, which sees it when it next yields.
_LOOKING_BETWEEN_CHUNKS = frozenset({"vllm", "dynamo"})


def cancel_mode(schema: ModelSchema, traits: Traits) -> CancelMode:
    """Return what cancelling a call to the model does, by a way of these traits.

    An ensemble hands a cancel to none of its members, and a BLS model's child requests do not see their parent's
    (unless the model's own code passes it on, which cannot be seen from here). vLLM looks when it next yields. Nothing
    is promised of a server that does not tell what runs the model.
    """
    if not traits.stops_single_answers and not schema.decoupled:
        return "client_only"
    if schema.scheduling == "ensemble" or schema.is_bls:
        return "client_only"
    if schema.backend in _UNINTERRUPTIBLE or not schema.backend:
        return "client_only"
    return "on_next_chunk" if schema.backend in _LOOKING_BETWEEN_CHUNKS else "hard"
