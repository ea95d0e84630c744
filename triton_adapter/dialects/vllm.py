"""The vLLM backend: https://github.com/triton-inference-server/vllm_backend.

Sampling goes as one JSON text. Before Triton 24.12 a model declares no `return_…` inputs, and then says neither why it
stopped nor how many tokens it made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from adapter_api import Capability, InvalidRequest, ResponseFormat, TaskRequest, Unsupported
from adapter_api.task import ParameterValue
from adapter_kit.chat_template import prompt_of
from triton_adapter.dialects.base import TaskDecoder
from triton_adapter.dialects.decoding import Reading, TextDecoder
from triton_adapter.dialects.layout import asks_for_figures
from triton_adapter.dialects.request import SAMPLING_FIELDS, RequestBuilder
from triton_adapter.dialects.vllm_logprobs import LOGPROBS, VllmScorer
from triton_adapter.schema import EncodedTask, ModelSchema, parse_version

_TEXT = "text_output"
_ASKED = {
    "finish_reason": "return_finish_reason",
    "num_input_tokens": "return_num_input_tokens",
    "num_output_tokens": "return_num_output_tokens",
}
_ASK_LOGPROBS = "return_logprobs"
_KNOWN = frozenset({_TEXT, LOGPROBS, *_ASKED})
_OWN = frozenset(
    {"text_input", "stream", "sampling_parameters", "exclude_input_in_output", "image", "embedding_request"}
    | {_ASK_LOGPROBS, *_ASKED.values()}
)
_GUIDED, _STRUCTURED_OUTPUTS = "guided_decoding", "structured_outputs"
# Triton's releases by their server: 24.12 is 2.53, 25.01 is 2.54, 25.11 is 2.63.
_WITHOUT_CONSTRAINTS, _FIRST_GUIDED, _FIRST_STRUCTURED = (2, 53), (2, 54), (2, 63)
# Sampling parameters that are lists or objects; a task's parameters are scalars, so they come as JSON.
_STRUCTURED = frozenset({"extra_args", "bad_words", "stop_token_ids", "allowed_token_ids"})


@dataclass(frozen=True, slots=True)
class VllmDialect:
    """Speaks the vLLM backend's tensors, as of whichever version the model declares."""

    guide_key: str | None = _STRUCTURED_OUTPUTS
    """Under which name constraints go; `None` where the backend has none."""

    @property
    def name(self) -> str:
        return "vllm"

    def capabilities(self, schema: ModelSchema) -> frozenset[Capability]:
        having = {
            Capability.TEXT: True,
            Capability.MESSAGES: True,
            Capability.CONTINUE_FINAL_MESSAGE: True,
            Capability.STOP: True,
            Capability.SEED: True,
            Capability.STREAMING: schema.decoupled and "stream" in schema.inputs,
            # From 25.01 on the backend declares the input for every model; before that for those that look at it.
            Capability.IMAGES: "image" in schema.inputs and _is_of_24_12(schema),
            Capability.RESPONSE_FORMAT: self.guide_key is not None,
            Capability.LOGPROBS: _has_logprobs(schema),
            Capability.FINISH_REASON: _asks(schema, "finish_reason"),
            Capability.USAGE: _asks(schema, "num_input_tokens") and _asks(schema, "num_output_tokens"),
        }
        return frozenset(capability for capability, has in having.items() if has)

    def uncertain(self, schema: ModelSchema) -> frozenset[Capability]:
        images = "image" in schema.inputs and Capability.IMAGES not in self.capabilities(schema)
        return frozenset({Capability.IMAGES} if images else ())

    def encode(self, task: TaskRequest, schema: ModelSchema) -> EncodedTask:
        request = RequestBuilder(task, schema)
        request.put_prompt(("text_input",), prompt_of(task))
        # A stream never repeats the prompt, and refuses to be told so on some versions; a single answer does.
        if not (schema.decoupled and request.ask("stream")):
            request.ask("exclude_input_in_output")
        request.put_images(("image",))
        request.refuse_tools_beside_a_prompt()
        outputs = [_TEXT]
        for output, flag in _ASKED.items():
            if _asks(schema, output):
                request.ask(flag)
                outputs.append(output)
        if task.logprobs is not None:
            if not _has_logprobs(schema):
                raise request.unsupported("`logprobs`")
            request.ask(_ASK_LOGPROBS)
            outputs.append(LOGPROBS)
        # Also when there are none: the backend would take every request parameter for one, and over HTTP Triton makes
        # one of the request's id.
        request.put(("sampling_parameters",), _as_json(self._sampling(request)))
        return request.finish([] if asks_for_figures(task) else outputs, streaming=schema.decoupled, fields=dict)

    def decoder(self, task: TaskRequest, schema: ModelSchema) -> TaskDecoder:
        said = {output: output if _asks(schema, output) else None for output in _ASKED}
        return TextDecoder(
            Reading(
                text=_TEXT,
                finish_reason=said["finish_reason"],
                tokens_in=said["num_input_tokens"],
                tokens_out=said["num_output_tokens"],
                stops=_stops_to_cut(task),
                max_tokens=task.max_tokens,
                running_usage=task.running_usage,
                scorer=VllmScorer(task.logprobs, _held_back(task)) if task.logprobs is not None else None,
                figures=asks_for_figures(task),
                known=_KNOWN,
            )
        )

    def _sampling(self, request: RequestBuilder) -> dict[str, Any]:
        task = request.task
        sampling: dict[str, Any] = {}
        for name in SAMPLING_FIELDS:
            value = getattr(task, name)
            if value is not None:
                sampling[name] = value
        if task.top_k == 0:
            # "All tokens" is -1 in every version; 0 only in later ones.
            sampling["top_k"] = -1
        if task.stop:
            sampling["stop"] = task.stop
        if task.logprobs is not None:
            sampling["logprobs"] = task.logprobs
        if task.response_format is not None:
            if self.guide_key is None:
                raise _no_constraints(request)
            sampling[self.guide_key] = msgspec.json.encode(_constraint(task.response_format)).decode()
        if task.parameters:
            for name, parameter in request.pass_through(own=_OWN).items():
                if name == "logit_bias":
                    raise Unsupported(
                        f"model {request.schema.name!r}: parameter 'triton.logit_bias' cannot reach vLLM: its backend "
                        "leaves the token ids as texts, and vLLM wants numbers; use 'triton.allowed_token_ids' or "
                        "'triton.bad_words'"
                    )
                sampling[name] = _structured(name, parameter) if name in _STRUCTURED else parameter
        return sampling


def _stops_to_cut(task: TaskRequest) -> tuple[str, ...]:
    """Return the stop strings that must not be in the answer: all, unless the task wants them or more text first."""
    wanted = task.parameters.get("triton.include_stop_str_in_output", False)
    return () if wanted or task.min_tokens else task.stop


def _held_back(task: TaskRequest) -> int:
    """Return how many characters vLLM holds back until it knows that they begin no stop string."""
    return max(map(len, task.stop), default=0)


def _is_of_24_12(schema: ModelSchema) -> bool:
    return parse_version(schema.server_version) == _WITHOUT_CONSTRAINTS


def guide_key(schema: ModelSchema) -> str | None:
    """Return under which name constraints go to a model; `None` where its backend has none.

    Backends up to 24.12 have none, up to 25.10 `guided_decoding`, then `structured_outputs`. Which one it is shows in
    what the model declares, and in the server's version as far as they are of one release.
    """
    inputs, server = schema.inputs, parse_version(schema.server_version)
    if "return_finish_reason" not in inputs:
        return None
    if schema.backend != "vllm" or "embedding_request" in inputs:
        return _STRUCTURED_OUTPUTS
    if server is None or server < _WITHOUT_CONSTRAINTS:  # a backend of a later release than the server, if it tells
        return _GUIDED if "image" in inputs else None
    if server >= _FIRST_STRUCTURED:
        return _STRUCTURED_OUTPUTS
    return _GUIDED if server >= _FIRST_GUIDED else None


def _no_constraints(request: RequestBuilder) -> Unsupported:
    name = request.schema.name
    return Unsupported(
        f"{request.unsupported('`response_format`').message}; Triton's vLLM backend has constraints from 25.01 on: "
        f"update it, or name the sampling parameter of yours in the adapter's setting "
        f"`models.{name}.inputs.response_format` ('{_GUIDED}' up to 25.10, '{_STRUCTURED_OUTPUTS}' from 25.11 on)"
    )


def _has_logprobs(schema: ModelSchema) -> bool:
    return _ASK_LOGPROBS in schema.inputs and LOGPROBS in schema.outputs


def _asks(schema: ModelSchema, output: str) -> bool:
    return _ASKED[output] in schema.inputs and output in schema.outputs


def _constraint(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.type == "json":
        return {"json_object": True}
    if wanted.type == "json_schema":
        return {"json": wanted.json_schema}
    return {"regex": wanted.regex} if wanted.type == "regex" else {"grammar": wanted.grammar}


def _as_json(sampling: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(sampling)
    except UnicodeEncodeError:
        raise InvalidRequest("a parameter has half a character in it (a lone surrogate)") from None


def _structured(name: str, value: ParameterValue) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        raise InvalidRequest(f"parameter 'triton.{name}' must be a JSON text") from None
