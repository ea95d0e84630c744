"""How families of engines differ, each as its servers were seen to answer, or as their documentation says.

Seen on 2026-11-28: vLLM 0.32, llama.cpp's server of 2026.10, transformers 5.23, Dynamo 1.6.1. Read, for they need GPUs:
Triton's OpenAI frontend of 26.01, TensorRT-LLM's trtllm-serve of 1.4, OpenAI's own reference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Refusal = tuple[int, str, str]
"""Status, content type, body."""


def _error(status: int, kind: str, message: str, **more: Any) -> Refusal:
    body = {"error": {"message": message, "type": kind, "param": None, "code": status, **more}}
    return status, "application/json", json.dumps(body)


def _flat(status: int, kind: str, message: str, **more: Any) -> Refusal:
    return status, "application/json", json.dumps({"message": message, "type": kind, "code": status, **more})


def _detail(status: int, message: str) -> Refusal:
    return status, "application/json", json.dumps({"detail": message})


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the servers of one family do."""

    name: str
    done: bool = True
    """Whether a stream ends with `[DONE]`."""
    first: dict[str, Any] | None = field(default_factory=lambda: {"role": "assistant", "content": ""})
    """The first delta, before any text; `None` for none."""
    finish: Literal["own", "last"] = "own"
    """Whether the finish reason has a chunk of its own or stands in the last one with text."""
    null_finish: bool = True
    """Whether `finish_reason` is there, null, before it is known."""
    usage: Literal["asked", "finish", "each"] = "asked"
    """In a chunk without choices when asked for, always in the finish chunk, or counted on in each chunk."""
    cuts_stops: bool = True
    """Whether the text ends before a stop string."""
    heeds_seed: bool = True
    gives_logprobs: bool = True
    reasoning: str = "reasoning_content"
    separator: str = "\n\n"
    """What follows the JSON of a chunk."""
    named_pieces: bool = False
    """Whether every piece of a tool call repeats its name and none has an id."""
    unknown_model: Refusal | None = None
    """`None`: any name is answered."""
    too_long: Refusal | None = None
    strict: Refusal | None = None
    """What it says to a field that it does not know; `None`: it takes any."""
    busy: Refusal = field(default_factory=lambda: _error(429, "RateLimitError", "the queue is full"))
    loading: Refusal = field(default_factory=lambda: (503, "text/plain", ""))
    broken: Refusal = field(default_factory=lambda: _error(500, "InternalServerError", "the engine stumbled"))
    in_band: str = '{"error": {"message": "the engine stumbled", "type": "InternalServerError", "code": 500}}'
    """An error inside a stream."""
    health: str | None = "/health"
    health_body: str = ""
    lists: bool = True
    """Whether `/v1/models` answers."""
    card: dict[str, Any] = field(default_factory=dict)
    """What it says of a model beside its name."""
    version: str | None = None
    """As in the answer to `/version`."""
    props: dict[str, Any] | None = None
    metrics: tuple[str, str] | None = None
    """Names of the gauges of running and waiting requests."""
    slots: int | None = None
    """As many as `/slots` shows."""
    server: str = "uvicorn"
    fingerprint: str | None = None
    fields: frozenset[str] | None = None
    """Fields that its description in OpenAPI gives a request; `None`: it describes nothing."""
    prompt: dict[str, Any] = field(default_factory=dict)
    """What a prompt is, by that description."""


_STANDARD = frozenset({
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed", "stop",
    "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "n",
})  # fmt: skip
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_TEXT_OR_IDS = {
    "anyOf": [
        _IDS,
        {"type": "array", "items": _IDS},
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
    ]
}
_MORE = frozenset({"top_k", "min_tokens", "repetition_penalty", "chat_template_kwargs"})

VLLM = Family(
    name="vllm",
    finish="last",
    reasoning="reasoning",
    unknown_model=_error(404, "NotFoundError", "The model `x` does not exist."),
    too_long=_error(
        400, "BadRequestError", "This model's maximum context length is 512 tokens.", param="input_tokens", code=400
    ),
    card={"owned_by": "vllm", "max_model_len": 512},
    version="0.32.0",
    metrics=("vllm:num_requests_running", "vllm:num_requests_waiting"),
    fingerprint="vllm-0.32.0-tp1-1f2e",
    fields=_STANDARD
    | _MORE
    | {
        "structured_outputs",
        "priority",
        "include_stop_str_in_output",
        "return_token_ids",
        "prompt_logprobs",
        "echo",
        "continue_final_message",
        "add_generation_prompt",
        "reasoning_effort",
    },
    prompt=_TEXT_OR_IDS,
)
LLAMA_CPP = Family(
    name="llama.cpp",
    first={"role": "assistant", "content": None},
    too_long=_error(
        400,
        "exceed_context_size_error",
        "the request exceeds the available context size",
        n_ctx=512,
        n_prompt_tokens=900,
    ),
    loading=_error(503, "unavailable_error", "Loading model"),
    card={"owned_by": "llamacpp", "meta": {"n_ctx_train": 512}},
    props={
        "total_slots": 4,
        "build_info": "b6900-1a2b3c",
        "modalities": {"vision": True, "audio": False},
        "default_generation_settings": {
            "params": {"temperature": 0.8, "top_k": 40, "repeat_penalty": 1.0, "seed": -1, "n_probs": 0}
        },
    },
    slots=4,
    health_body='{"status":"ok"}',
    server="llama.cpp",
    fingerprint="b6900-1a2b3c",
)
TRANSFORMERS = Family(
    name="transformers",
    done=False,
    first={"role": "assistant"},
    null_finish=False,
    usage="finish",
    cuts_stops=False,
    heeds_seed=False,
    gives_logprobs=False,
    unknown_model=(500, "text/plain; charset=utf-8", "Internal Server Error"),
    strict=_detail(422, "Unexpected fields in the request: {'top_k'}"),
    broken=(500, "text/plain; charset=utf-8", "Internal Server Error"),
    health_body='{"status":"ok"}',
    lists=False,
)
DYNAMO = Family(
    name="dynamo",
    first={"role": "assistant"},
    unknown_model=_flat(404, "Not Found", "Model not found"),
    strict=_flat(400, "Bad Request", "Unsupported parameter"),
    busy=_flat(503, "Service Unavailable", "Service temporarily unavailable: all workers are busy"),
    broken=_flat(500, "Internal Server Error", "Failed to generate completions"),
    in_band='{"message": "the worker is gone", "type": "Internal Server Error", "code": 500}',
    health_body='{"status":"healthy","endpoints":[],"instances":[]}',
    card={"owned_by": "nvidia"},
    server="",
)
TRITON_FRONTEND = Family(
    name="triton",
    unknown_model=_detail(400, "Unknown model: x"),
    too_long=_detail(400, "the prompt is too long for the model"),
    busy=_detail(500, "Exceeds maximum queue size"),
    broken=_detail(500, "the engine stumbled"),
    named_pieces=True,
    health="/health/ready",
    card={"owned_by": "Triton Inference Server"},
    metrics=None,
    fields=_STANDARD,
)
TRTLLM_SERVE = Family(
    name="trtllm",
    first={"role": "assistant"},
    null_finish=False,
    separator=" \n\n",
    unknown_model=_flat(404, "NotFoundError", "The model `x` does not exist.", object="error", param=None),
    too_long=_flat(
        400, "BadRequestError", "The prompt length (900) exceeds max_num_tokens (512)", object="error", param=None
    ),
    broken=_flat(500, "InternalServerError", "the engine stumbled", object="error"),
    card={"owned_by": "tensorrt_llm"},
    version="1.4.0",
    fields=_STANDARD | _MORE | {"add_generation_prompt"},
    prompt=_TEXT_OR_IDS,
)
OPENAI = Family(
    name="openai",
    unknown_model=_error(404, "invalid_request_error", "The model `x` does not exist", code="model_not_found"),
    too_long=_error(
        400,
        "invalid_request_error",
        "This model's maximum context length is 512 tokens",
        code="context_length_exceeded",
    ),
    strict=_error(400, "invalid_request_error", "Unrecognized request argument supplied: top_k"),
    health=None,
    card={"owned_by": "system"},
    server="cloudflare",
    fingerprint="fp_44709d6fcb",
)
FAMILIES = (VLLM, LLAMA_CPP, TRANSFORMERS, DYNAMO, TRITON_FRONTEND, TRTLLM_SERVE, OPENAI)
