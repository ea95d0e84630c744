"""How each model family words the same generated tokens, and how it ends a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

from adapter_api.tensors import Tensor
from triton_adapter.wire import v2_pb2 as v2

from .failure import TritonFailure
from .records import RecordedRequest
from .script import Ending
from .signatures import Signature
from .tensors import numbers, texts


@dataclass(frozen=True, slots=True)
class Silent:
    """A token that is generated, counted and told among the logprobs, and not in the text: a special token."""

    text: str = "<|end|>"


OneToken = str | bytes | int | Silent
Token = OneToken | tuple[OneToken, ...]
"""A tuple is tokens that the model joins into one message, as vLLM does while nobody fetches them."""
Message = dict[str, Tensor]
# A scripted model has no probabilities: every token gets this logarithm of one.
_LOGPROB = -0.5
_FIRST_TOKEN_ID = 100
_OTHER_TOKEN_ID = 90_000


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model has come up with, before it is worded."""

    messages: Sequence[Token]
    """Its tokens, as they are sent where the model streams."""
    finish_reason: str
    tokens: list[OneToken] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", list(chain.from_iterable(map(_group, self.messages))))

    def groups(self, stream: bool) -> list[list[OneToken]]:
        """Return the tokens of each message."""
        return [_group(message) for message in self.messages] if stream else [self.tokens]

    def text(self, tokens: Sequence[OneToken]) -> bytes:
        return b"".join(_bytes(token) for token in tokens)


def word(
    signature: Signature, config: v2.ModelConfig, request: RecordedRequest, generation: Generation
) -> tuple[list[Message], Ending]:
    """Return the messages with which a model of that family answers, and where it puts the final flag."""
    return _WORDINGS[signature](config, request, generation)


def _text(config: v2.ModelConfig, request: RecordedRequest, generation: Generation) -> tuple[list[Message], Ending]:
    names = [output.name for output in config.output if output.data_type == v2.TYPE_STRING]
    if not names:
        raise _failure(f"the fake model {config.name!r} has no text to answer with: script it, `respond_with_tensors`")
    name = "text_output" if "text_output" in names else names[0]
    shape = (1, 1) if config.max_batch_size else (1,)
    groups = generation.groups(config.model_transaction_policy.decoupled)
    return [{name: texts(name, generation.text(group), shape=shape)} for group in groups], "with_last"


def _vllm(config: v2.ModelConfig, request: RecordedRequest, generation: Generation) -> tuple[list[Message], Ending]:
    stream = bool(request.value("stream", False))
    exclude_input = bool(request.value("exclude_input_in_output", stream))
    if stream and not exclude_input:
        raise _failure("Error generating stream: When streaming, `exclude_input_in_output` = False is not allowed.")
    prompt = b"" if exclude_input else request.text().encode()
    groups = generation.groups(stream)
    messages = []
    for index, group in enumerate(groups):
        done = sum(map(len, groups[: index + 1]))
        extras = {
            "finish_reason": texts("finish_reason", generation.finish_reason if group is groups[-1] else "None"),
            "cumulative_logprob": numbers("cumulative_logprob", "FP32", [_LOGPROB * done]),
            "logprobs": texts("logprobs", _vllm_logprobs(request, group, done - len(group))),
            "num_input_tokens": numbers("num_input_tokens", "UINT32", [len(request.text().split())], ()),
            "num_output_tokens": numbers("num_output_tokens", "UINT32", [len(group)]),
        }
        message = {"text_output": texts("text_output", prompt + generation.text(group))}
        messages.append(message | _asked(extras, request))
    return messages, "with_last"


def _trtllm(config: v2.ModelConfig, request: RecordedRequest, generation: Generation) -> tuple[list[Message], Ending]:
    stream = bool(request.value("stream", False))
    settings = {key: value.string_value for key, value in config.parameters.items()}
    cumulative = settings.get("accumulate_tokens") == "true"
    silent = stream or bool(request.value("exclude_input_in_output", False))
    prompt = b"" if silent else request.text().encode()
    groups = generation.groups(stream)
    if cumulative:
        groups = list(accumulate(groups))
    messages = []
    for group in groups:
        message = {
            "text_output": texts("text_output", prompt + generation.text(group)),
            "batch_index": numbers("batch_index", "INT32", [0], (1, 1)),
            "sequence_index": numbers("sequence_index", "INT32", [0], (1, 1)),
        }
        extras = {
            "num_input_tokens": numbers("num_input_tokens", "INT32", [len(request.text().split())], (1, 1)),
            "num_output_tokens": numbers("num_output_tokens", "INT32", [len(group)], (1, 1)),
        }
        if request.value("return_log_probs", False):
            each = [_LOGPROB] * len(group)
            message["cum_log_probs"] = numbers("cum_log_probs", "FP32", [sum(each)], (1, 1))
            message["output_log_probs"] = numbers("output_log_probs", "FP32", each, (1, 1, len(each)))
        messages.append(message | _asked(extras, request))
    return messages, "with_last"


def _trtllm_bls(
    config: v2.ModelConfig, request: RecordedRequest, generation: Generation
) -> tuple[list[Message], Ending]:
    return _trtllm(config, request, generation)[0], "separately"


def _llmapi(config: v2.ModelConfig, request: RecordedRequest, generation: Generation) -> tuple[list[Message], Ending]:
    stream = bool(request.value("streaming", False))
    if stream and not config.model_transaction_policy.decoupled:
        raise _failure("Streaming is only supported in decoupled mode.")
    silent = stream or bool(request.value("sampling_param_exclude_input_from_output", False))
    prompt = b"" if silent else request.text().encode()
    groups = list(accumulate(generation.groups(stream)))
    messages = []
    for group in groups:
        reason = generation.finish_reason if group is groups[-1] else "None"
        extras = {
            "finish_reason": texts("finish_reason", reason),
            "stop_reason": texts("stop_reason", "None"),
            "cumulative_logprob": numbers("cumulative_logprob", "FP32", [_LOGPROB * len(group)]),
        }
        message = {"text_output": texts("text_output", prompt + generation.text(group))}
        messages.append(message | _asked(extras, request))
    return messages, "with_last"


def _tensorrt_llm(
    config: v2.ModelConfig, request: RecordedRequest, generation: Generation
) -> tuple[list[Message], Ending]:
    stream = bool(request.value("streaming", False))
    given = request.value("input_ids", [])
    silent = stream or bool(request.value("exclude_input_in_output", False))
    prompt = [] if silent else given if isinstance(given, list) else [given]
    places = iter(range(_FIRST_TOKEN_ID, _OTHER_TOKEN_ID))
    messages = []
    for group in generation.groups(stream):
        found = prompt + [
            token if isinstance(token, int) else place for token, place in zip(group, places, strict=False)
        ]
        messages.append(
            {
                "output_ids": numbers("output_ids", "INT32", found, (1, 1, len(found))),
                "sequence_length": numbers("sequence_length", "INT32", [len(found)], (1, 1)),
            }
        )
    return messages, "with_last"


_WORDINGS: dict[Signature, Callable[[v2.ModelConfig, RecordedRequest, Generation], tuple[list[Message], Ending]]] = {
    "text": _text,
    "vllm": _vllm,
    "vllm_before_24_12": _vllm,
    "trtllm": _trtllm,
    "trtllm_bls": _trtllm_bls,
    "trtllm_llmapi": _llmapi,
    "tensorrt_llm": _tensorrt_llm,
}


def _group(message: Token) -> list[OneToken]:
    return list(message) if isinstance(message, tuple) else [message]


def _asked(extras: Message, request: RecordedRequest) -> Message:
    return {name: tensor for name, tensor in extras.items() if request.value(f"return_{name}", False)}


def _vllm_logprobs(request: RecordedRequest, tokens: Sequence[OneToken], first: int) -> str:
    sampling: dict[str, Any] = json.loads(request.value("sampling_parameters", "{}"))
    if sampling.get("logprobs") is None:
        return "null"
    places = enumerate(tokens, _FIRST_TOKEN_ID + first)
    return json.dumps([_vllm_step(token_id, token, sampling["logprobs"]) for token_id, token in places])


def _vllm_step(token_id: int, token: OneToken, likeliest: int) -> dict[str, Any]:
    """Return what the backend says of one token: the token itself first, then others until there are `likeliest`."""
    text = token.text if isinstance(token, Silent) else _bytes(token).decode("utf-8", "replace")
    step = {str(token_id): {"logprob": _LOGPROB, "rank": 1, "decoded_token": text}}
    for rank in range(2, likeliest + 1):
        other = {"logprob": _LOGPROB * rank, "rank": rank, "decoded_token": f"<{rank}>"}
        step[str(_OTHER_TOKEN_ID + rank)] = other
    return step


def _bytes(token: OneToken) -> bytes:
    if isinstance(token, Silent):
        return b""
    if isinstance(token, int):
        return f" <{token}>".encode()
    return token.encode() if isinstance(token, str) else token


def _failure(text: str) -> TritonFailure:
    return TritonFailure("INTERNAL", text, at_run_time=True)
