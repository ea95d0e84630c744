"""Any model with a text in and a text out: found by its tensors' names, or by what the user says they are.

Sampling options go to inputs of their names where there are such, else as request parameters to models that see them
(`max_tokens=16`); whether the model heeds those is its own affair. A seed must have an input or a declared place: what
cannot be relied upon is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adapter_api import Unsupported
from triton_adapter.dialects.decoding import COUNT_DATATYPES, TEXT_DATATYPES
from triton_adapter.dialects.layout import Asked, Layout, LayoutDialect, Names
from triton_adapter.dialects.request import SAMPLING_FIELDS
from triton_adapter.schema import ModelSchema, TensorSpec

_PROMPTS = ("text_input", "prompt", "text", "input_text", "inputs", "input", "query", "question", "instruction")
_TEXTS = ("text_output", "text", "output_text", "generated_text", "output", "outputs", "response", "completion")
_FIELDS: Mapping[str, Names] = {
    "max_tokens": ("max_tokens", "max_new_tokens", "max_output_tokens", "request_output_len", "output_len"),
    "min_tokens": ("min_tokens", "min_new_tokens"),
    "temperature": ("temperature",),
    "top_p": ("top_p", "runtime_top_p"),
    "top_k": ("top_k", "runtime_top_k"),
    "seed": ("seed", "random_seed"),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "repetition_penalty": ("repetition_penalty",),
}
_STOPS = ("stop", "stop_words", "stop_sequences")
_STREAMS = ("stream", "streaming")
_WITHOUT_ECHO = ("exclude_input_in_output", "exclude_input_from_output")
_FINISH_REASONS = ("finish_reason",)
_TOKENS_IN = ("num_input_tokens",)
_TOKENS_OUT = ("num_output_tokens",)
_LISTED = 6
# Backends whose models see request parameters: those that are programs. An ensemble hands them to its members.
_SEEING_PARAMETERS = frozenset({"python", "vllm"})


def find_layout(schema: ModelSchema, *, prompt: str | None = None, text: str | None = None) -> Layout:
    """Return where the model takes what, with `prompt` and `text` given by the user or found.

    Raises:
        Unsupported: It takes no text or gives none; the message says what it has instead.
    """
    prompt = prompt or _find(schema.inputs, _PROMPTS)
    text = text or _find(schema.outputs, _TEXTS)
    if prompt is None or text is None:
        raise Unsupported(
            f"model {schema.name!r} takes no text that can be told: its inputs are {_listed(schema.inputs)}, its "
            f"outputs {_listed(schema.outputs)}; use `infer`, or say in `models.{schema.name}` which input is the "
            "prompt and which output the text"
        )
    names = {name.lower(): name for name in schema.inputs if name != prompt}
    fields = {field: found for field, known in _FIELDS.items() if (found := _declared(known, names))}
    _check_the_rest(schema, {prompt, *(name for found in fields.values() for name in found)})
    sees_parameters = schema.backend in _SEEING_PARAMETERS or schema.scheduling == "ensemble"
    # A seed that may go unheard is no seed.
    loose = [field for field in SAMPLING_FIELDS if field != "seed"] if sees_parameters else []
    return Layout(
        prompt=(prompt,),
        text=(text,),
        fields=fields,
        parameters={field: field for field in loose},
        stop=_declared(_STOPS, names, schema.inputs, "BYTES"),
        stream=_declared(_STREAMS, names, schema.inputs, "BOOL"),
        without_echo=_declared(_WITHOUT_ECHO, names, schema.inputs, "BOOL"),
        finish_reason=_asked(_FINISH_REASONS, schema, TEXT_DATATYPES),
        tokens_in=_asked(_TOKENS_IN, schema, COUNT_DATATYPES),
        tokens_out=_asked(_TOKENS_OUT, schema, COUNT_DATATYPES),
    )


def generic_dialect(schema: ModelSchema, layout: Layout, *, cumulative: bool | None = None) -> LayoutDialect:
    """Return the dialect of a model with that layout."""
    sees_parameters = schema.backend in _SEEING_PARAMETERS or schema.scheduling == "ensemble"
    return LayoutDialect("generic", layout, cumulative=cumulative, forwards_parameters=sees_parameters)


def _find(declared: Mapping[str, TensorSpec], known: Names) -> str | None:
    """Return the only text tensor, or the one with the best known name; an optional one by its name only."""
    texts = [spec for spec in declared.values() if spec.datatype == "BYTES" and _holds_one(spec)]
    needed = [spec for spec in texts if not spec.optional]
    if len(needed) == 1:
        return needed[0].name
    names = {spec.name.lower(): spec.name for spec in needed or texts}
    return next((names[name] for name in known if name in names), None)


def _holds_one(spec: TensorSpec) -> bool:
    return all(dim in (1, -1) for dim in spec.dims)


def _declared(
    known: Names, names: Mapping[str, str], inputs: Mapping[str, TensorSpec] | None = None, datatype: str = ""
) -> Names:
    found = (names[name] for name in known if name in names)
    return tuple(name for name in found if inputs is None or inputs[name].datatype == datatype)


def _asked(known: Names, schema: ModelSchema, datatypes: frozenset[str]) -> tuple[Asked, ...]:
    return tuple(
        Asked(flag if (flag := f"return_{name}") in schema.inputs else None, name)
        for name in known
        if name in schema.outputs and schema.outputs[name].datatype in datatypes
    )


def _check_the_rest(schema: ModelSchema, filled: Iterable[str]) -> None:
    """Refuse a model that needs tensors which no task can fill: it is more than a text model."""
    filled = {*filled, *_STREAMS, *_WITHOUT_ECHO}
    needed = [spec for spec in schema.inputs.values() if not spec.optional and spec.name not in filled]
    unknown = {spec.name: spec for spec in needed if not _holds_one(spec)}
    if unknown:
        raise Unsupported(
            f"model {schema.name!r} takes more than text: {_listed(unknown)} cannot be filled from a task; use `infer`"
        )


def _listed(tensors: Mapping[str, TensorSpec]) -> str:
    shown = [f"{spec.name} {spec.datatype}{list(spec.dims)}" for spec in tensors.values()]
    more = [f"{len(shown) - _LISTED} more"] if len(shown) > _LISTED else []
    return ", ".join(shown[:_LISTED] + more) or "none"
