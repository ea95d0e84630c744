"""Text models of NVIDIA Dynamo behind its KServe face: https://github.com/ai-dynamo/dynamo.

The face takes a prompt and whether to stream, and drops everything else a request carries, its parameters included. Its
streams have no final flag: they end with the call. The model's configuration does not say that it streams.
"""

from __future__ import annotations

from triton_adapter.dialects.layout import Asked, Layout, LayoutDialect
from triton_adapter.schema import ModelSchema

DYNAMO = Layout(
    prompt=("text_input",),
    text=("text_output",),
    stream=("streaming", "stream"),
    finish_reason=(Asked(None, "finish_reason"),),
)
_DROPPED = (
    "Dynamo's KServe face drops the parameters of a text request: leave it out, or use Dynamo's OpenAI face, which "
    "takes it"
)


def is_dynamo_text(schema: ModelSchema) -> bool:
    """Return whether it is such a model. Dynamo's tensor models say that they run on Dynamo, too."""
    on_dynamo = "dynamo" in (schema.backend.lower(), schema.platform.lower())
    return on_dynamo and "text_input" in schema.inputs and "text_output" in schema.outputs


def dynamo_dialect() -> LayoutDialect:
    """Return the dialect of these models."""
    return LayoutDialect("dynamo", DYNAMO, always_streams=True, always_says_why=True, no_place_because=_DROPPED)
