"""What an engine is and what it can do. `None` means "cannot tell"."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from adapter_api.cancel import CancelMode

Severity = Literal["error", "warning", "hint"]
Topic = Literal["cancel", "determinism", "health", "model", "overload", "security", "version"]


class Capability(StrEnum):
    """What an adapter, or one of its models, promises. Declared must work; undeclared is refused as `unsupported`."""

    TEXT = "text"
    """Text tasks by `prompt`."""
    MESSAGES = "messages"
    """Tasks by `messages`."""
    IMAGES = "images"
    """Images that a task carries by value."""
    IMAGE_URLS = "image_urls"
    """Images that the model fetches itself, by URL."""
    STREAMING = "streaming"
    """Tokens arrive while the engine still generates."""
    CANCEL_HARD = "cancel_hard"
    """A cancel stops the engine."""
    STOP = "stop"
    SEED = "seed"
    """The same seed gives the same text on the same replica."""
    LOGPROBS = "logprobs"
    RESPONSE_FORMAT = "response_format"
    TOOLS = "tools"
    """A model may call the `tools` of a task: its calls come as `tool_call` events."""
    REASONING = "reasoning"
    """What a model thinks comes as `reasoning` events, and its answer holds none of it."""
    CHAT_TEMPLATE_KWARGS = "chat_template_kwargs"
    """Values of the task's own for the model's chat template."""
    PROMPT_TOKEN_IDS = "prompt_token_ids"
    """Text tasks by `prompt_token_ids`."""
    TOKEN_IDS = "token_ids"
    """`token_ids` events tell the ids of prompt and answer, where a task asks for them."""
    PROMPT_LOGPROBS = "prompt_logprobs"
    """A `prompt_logprobs` event tells how likely each token of the prompt is, where a task asks for it."""
    CONTINUE_FINAL_MESSAGE = "continue_final_message"
    """The answer goes on from a conversation's last message, or begins without the template's invitation to it."""
    USAGE = "usage"
    """`End.usage` counts tokens."""
    FINISH_REASON = "finish_reason"
    """`End.finish_reason` tells `stop` from `length`."""
    TENSORS = "tensors"
    TENSOR_STREAM = "tensor_stream"
    SEQUENCES = "sequences"
    SHARED_MEMORY = "shared_memory"
    MODEL_CONTROL = "model_control"


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input or output that a model declares; -1 in `shape` is any size, and a batch dimension is part of it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool | None = False
    """`None` where the engine cannot tell: what it declares is then advice, and its answer to a request decides."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something about an engine or a model that is wrong, or that will surprise somebody.

    An `error` keeps work from being done, a `warning` makes something not work as most would expect, a `hint` is good
    to know. `advice` is what to do about it.
    """

    severity: Severity
    topic: Topic
    message: str
    advice: str = ""


class ModelProps(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one model."""

    name: str
    versions: tuple[str, ...] = ()
    ready: bool | None = None
    dialect: str | None = None
    """Which tensors it speaks, as the adapter found out; `None` when it takes no text."""
    dialect_reason: str | None = None
    capabilities: frozenset[Capability] = frozenset()
    uncertain: frozenset[Capability] = frozenset()
    """What nobody can tell before it is tried: such a task is sent, and is `unsupported` if the model refuses."""
    cancel_mode: CancelMode | None = None
    """What a cancel does at best; see `CancelReceipt.mode`."""
    max_batch_size: int | None = None
    max_tokens: int | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    findings: tuple[Finding, ...] = ()
    slots: int | None = None
    """Requests it works on at once; more wait in the engine."""
    metadata: str | None = None
    """What its author wrote beside it for clients, in the author's own form: a detector's task and class names, say."""


class EngineProps(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the engine behind an adapter."""

    engine: str
    engine_version: str | None = None
    capabilities: frozenset[Capability] = frozenset()
    models: tuple[ModelProps, ...] = ()
    models_listed: bool = True
    """Whether the engine told which models it has: `False` when `models` are only those that were asked for by name."""
    slots_total: int | None = None
    slots_free: int | None = None
    max_batch_size: int | None = None
    extensions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    transport: str | None = None
    """What carries the calls, in the adapter's words, and why that if it was not to be expected: as in `h2`, `grpcio
    (asked for)`; `None` where there is nothing to tell apart."""
    certificate_expires_at: float | None = None
    """When the certificate by which the engine knows us ends, in seconds since the epoch; `None` without one."""
