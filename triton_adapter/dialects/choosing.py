"""Which dialect a model speaks, told from what it declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapter_api import Capability, ConfigurationError, Unsupported
from triton_adapter.dialects.base import Dialect
from triton_adapter.dialects.conversation import capabilities_of
from triton_adapter.dialects.decoding import COUNT_DATATYPES, TEXT_DATATYPES
from triton_adapter.dialects.dynamo import dynamo_dialect, is_dynamo_text
from triton_adapter.dialects.generic import find_layout, generic_dialect
from triton_adapter.dialects.layout import LayoutDialect, with_overrides
from triton_adapter.dialects.request import SAMPLING_FIELDS
from triton_adapter.dialects.tokenizer import load_tokenizer
from triton_adapter.dialects.trtllm import LogprobTrack, ensemble_dialect, llmapi_dialect
from triton_adapter.dialects.trtllm_raw import RAW, RawDialect
from triton_adapter.dialects.vllm import VllmDialect, guide_key
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.settings import ModelOverride

_NO_OVERRIDE = ModelOverride()
_INPUT_FIELDS = frozenset({"prompt", "prompt_token_ids", *SAMPLING_FIELDS, "stop", "stream", "without_echo", "images"})
_OUTPUT_FIELDS = frozenset({"text", "finish_reason", "tokens_in", "tokens_out"})
_DATATYPES = {"finish_reason": TEXT_DATATYPES, "tokens_in": COUNT_DATATYPES, "tokens_out": COUNT_DATATYPES}


@dataclass(frozen=True, slots=True)
class Choice:
    """The dialect of a model, a sentence that says why it is this one, and what the user knows better."""

    dialect: Dialect
    reason: str
    override: ModelOverride

    def capabilities(self, schema: ModelSchema) -> frozenset[Capability]:
        """Return what the model, as it declares itself, can do with a task by its dialect and the settings."""
        return self.dialect.capabilities(schema) | capabilities_of(self.override)


def choose_dialect(schema: ModelSchema, override: ModelOverride | None = None) -> Choice:
    """Return the dialect of a model, and why it is this one.

    Args:
        schema: What the model declares.
        override: What the user knows better.

    Raises:
        Unsupported: The model takes no text, or needs a tokenizer that was not given.
        ConfigurationError: The override names something the model does not declare, or that does not exist.
    """
    override = _NO_OVERRIDE if override is None else override
    if override is not _NO_OVERRIDE:
        _check(override, schema)
    name, reason = _told(schema, override) or _found(schema)
    return Choice(_DIALECTS[name](schema, override), reason, override)


def _told(schema: ModelSchema, override: ModelOverride) -> tuple[str, str] | None:
    if override.dialect is not None:
        return override.dialect, "the settings say so"
    if "prompt" in override.inputs:
        return "generic", f"the settings say that its prompt is {override.inputs['prompt']!r}"
    return None


def _found(schema: ModelSchema) -> tuple[str, str]:
    inputs = schema.inputs
    if is_dynamo_text(schema):
        return "dynamo", "it runs on Dynamo and declares text_input and text_output, as Dynamo's text models do"
    if "sampling_parameters" in inputs and "text_input" in inputs:
        age = "" if "return_finish_reason" in inputs else ", from before 24.12"
        return "vllm", f"it declares text_input and sampling_parameters, as the vLLM backend does{age}"
    if "sampling_param_max_tokens" in inputs and "text_input" in inputs:
        return "trtllm_llmapi", "it declares sampling_param_max_tokens, as TensorRT-LLM's LLM API model does"
    if "text_input" in inputs and "max_tokens" in inputs and "text_output" in schema.outputs:
        if schema.is_bls:
            return "trtllm_bls", "it has the tensors and the parameters of TensorRT-LLM's BLS model"
        return "trtllm", "it declares text_input and max_tokens, as TensorRT-LLM's ensemble does"
    if "input_ids" in inputs and "request_output_len" in inputs and "output_ids" in schema.outputs:
        return "trtllm_raw", "it declares input_ids and request_output_len, as the bare tensorrt_llm model does"
    return "generic", "it takes one text and gives one"


def _vllm(schema: ModelSchema, override: ModelOverride) -> Dialect:
    key = override.inputs.get("response_format")
    return VllmDialect(guide_key=guide_key(schema) if key is None else key)


def _trtllm(schema: ModelSchema, override: ModelOverride) -> Dialect:
    return _adjusted(ensemble_dialect(bls=False, cumulative=False), override)


def _trtllm_bls(schema: ModelSchema, override: ModelOverride) -> Dialect:
    accumulates = schema.parameters.get("accumulate_tokens", "").strip().lower() in ("true", "1")
    return _adjusted(ensemble_dialect(bls=True, cumulative=accumulates), override)


def _llmapi(schema: ModelSchema, override: ModelOverride) -> Dialect:
    return _adjusted(llmapi_dialect(), override)


def _raw(schema: ModelSchema, override: ModelOverride) -> Dialect:
    if override.tokenizer is None:
        raise Unsupported(
            f"model {schema.name!r} takes token ids: give its tokenizer.json as `models.{schema.name}.tokenizer`, send "
            "text to the ensemble in front of it, or use `infer`"
        )
    raw = RawDialect("trtllm_raw", RAW, read_logprobs=LogprobTrack, tokenizer=load_tokenizer(override.tokenizer))
    return _adjusted(raw, override)


def _dynamo(schema: ModelSchema, override: ModelOverride) -> Dialect:
    return _adjusted(dynamo_dialect(), override)


def _generic(schema: ModelSchema, override: ModelOverride) -> Dialect:
    layout = find_layout(schema, prompt=override.inputs.get("prompt"), text=override.outputs.get("text"))
    return _adjusted(generic_dialect(schema, layout), override)


_DIALECTS: dict[str, Callable[[ModelSchema, ModelOverride], Dialect]] = {
    "vllm": _vllm,
    "trtllm": _trtllm,
    "trtllm_bls": _trtllm_bls,
    "trtllm_llmapi": _llmapi,
    "trtllm_raw": _raw,
    "dynamo": _dynamo,
    "generic": _generic,
}
"""Names as in the settings."""


def _adjusted(dialect: LayoutDialect, override: ModelOverride) -> Dialect:
    if override is _NO_OVERRIDE:
        return dialect
    changes: dict[str, Any] = {}
    if override.inputs or override.outputs:
        changes["layout"] = with_overrides(dialect.layout, override.inputs, override.outputs)
    if "images" in override.inputs:
        changes["may_ignore_images"] = False
    if override.cumulative is not None:
        changes["cumulative"] = override.cumulative
    return replace(dialect, **changes)


def _check(override: ModelOverride, schema: ModelSchema) -> None:
    where = f"models.{schema.name}"
    if override.dialect is not None and override.dialect not in _DIALECTS:
        raise ConfigurationError(f"{where}.dialect: there is no {override.dialect!r}; use {', '.join(_DIALECTS)}")
    speaks_vllm = override.dialect == "vllm" or "sampling_parameters" in schema.inputs
    for field, target in override.inputs.items():
        if speaks_vllm and field == "response_format":
            continue
        _check_known(f"{where}.inputs", field, _INPUT_FIELDS)
        if target.startswith("parameter:") and field in SAMPLING_FIELDS:
            continue
        _check_declared(f"{where}.inputs.{field}", target, schema.inputs, "input")
    for field, target in override.outputs.items():
        _check_known(f"{where}.outputs", field, _OUTPUT_FIELDS)
        _check_declared(f"{where}.outputs.{field}", target, schema.outputs, "output")
        if field in _DATATYPES:
            _check_datatype(f"{where}.outputs.{field}", schema.outputs[target], _DATATYPES[field])


def _check_known(where: str, field: str, known: frozenset[str]) -> None:
    if field not in known:
        raise ConfigurationError(f"{where}: {field!r} cannot be mapped; these can: {', '.join(sorted(known))}")


def _check_datatype(where: str, spec: TensorSpec, datatypes: frozenset[str]) -> None:
    if spec.datatype not in datatypes:
        raise ConfigurationError(
            f"{where}: output {spec.name!r} is {spec.datatype} and must be one of {', '.join(sorted(datatypes))}"
        )


def _check_declared(where: str, target: str, declared: Mapping[str, TensorSpec], kind: str) -> None:
    if target not in declared:
        raise ConfigurationError(
            f"{where}: the model has no {kind} {target!r}; it has {', '.join(sorted(declared)) or 'none'}"
        )
