"""What a task says while it runs: `started`, then its output and `metrics`, then `end` or `error`.

Output is of three kinds: `token` (the answer's text), `reasoning` (thinking apart from the answer), `tool_call`. Beside
it a task that asks for them gets `token_ids`, and `prompt_logprobs`.

Events are msgspec structs rather than pydantic models because one is made per token: about 0.08 µs against
1 µs (measured; see `benchmarks/`). Their JSON form is one object with `"type"`; the JSON Schema is committed in
`adapter_api/schemas/token_event.json`. `None` always means "the engine did not say", `0` a measured zero.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from adapter_api.docstrings import level_descriptions
from adapter_api.errors import AdapterError, DeadlineExceeded, DeadlineStage

FinishReason = Literal["stop", "length", "cancelled", "tool_calls", "content_filter", "unknown"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens counted by the engine itself; `None` where it does not count."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_in_cached: int | None = None
    """Of `tokens_in`, those that the engine had in its cache."""
    tokens_out_reasoning: int | None = None
    """Of `tokens_out`, those of thoughts."""


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """How long the task took as its submitter saw it, in milliseconds from `submit`.

    The first token is the first output of any kind; `time_to_first_token_ms` is `None` when there was none.
    `decode_time_ms` runs from the first output to the last.
    """

    total_ms: float
    time_to_first_token_ms: float | None = None
    decode_time_ms: float | None = None
    queue_ms: float | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="started"):
    """The task is on its way in the engine. First event, exactly once."""

    job_id: str
    engine: str
    engine_version: str | None = None
    model: str
    model_version: str | None = None
    pool_id: str | None = None
    replica_id: str | None = None
    queue_position: int | None = None
    predicted_start_ms: float | None = None
    seed: int | None = None


class Alternative(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A token that the engine could have chosen in a place; `logprob` is the natural logarithm of its probability, and
    `rank` its place among all tokens, the likeliest being 1."""

    text: str
    logprob: float
    token_id: int | None = None
    rank: int | None = None


class Token(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="token"):
    """A piece of text, as the engine cut it: `text` is what is new, never a broken character.

    `index` counts the token events of the task from 0. `logprob` is the natural logarithm of the probability.
    `alternatives` are the likeliest tokens in this place, likeliest first, as many as `TaskRequest.logprobs` asked for.
    An engine may put several of its own tokens into one event, which then has their joint `logprob` and no
    `alternatives`; `Usage` counts the engine's.
    """

    index: int
    text: str
    token_id: int | None = None
    logprob: float | None = None
    choice: int = 0
    alternatives: tuple[Alternative, ...] = ()


class Reasoning(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="reasoning"):
    """A piece of what a model thinks before or between its answer, where the engine tells it apart from the answer.

    Like `Token`, but no part of the answer: `index` counts the reasoning events of the task from 0, and the texts of
    the tokens join to the answer without them.
    """

    index: int
    text: str
    choice: int = 0
    token_id: int | None = None
    logprob: float | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="tool_call"):
    """A piece of a tool call that the model makes; `gather_tool_calls` joins the pieces.

    `call` is the place of the call in the answer: 0, 1, 2, … The first piece of a call has its `name` and its `id`, and
    only that piece; the guard makes an `id` where the engine gives none, or gives one twice. Each piece brings more of
    `arguments`, the JSON text as the engine wrote it: it is never parsed on its way, and may be cut anywhere. A call
    begins when the one before is complete. An engine that tells whole calls at its end gives one piece each.
    """

    call: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0


class TokenIds(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="token_ids"
):
    """Ids of the engine's own tokens, for a task that asks for them (`return_token_ids`).

    `prompt`: those of the prompt as the engine read it, told once and before any output. `output`: the next ones that
    it generated, in their order, those without a text of their own included; joined they are the whole answer. They
    come before the output that they make, or after all of it where they make none.
    """

    prompt: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    choice: int = 0


class PromptToken(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A token of a prompt: how likely the model found it, behind those before it.

    The first has no `logprob`, for nothing is before it, and its `text` is empty where the engine does not tell it.
    `alternatives` are the likeliest tokens in its place, likeliest first, this one among them where it is one of these.
    """

    text: str
    logprob: float | None = None
    token_id: int | None = None
    rank: int | None = None
    alternatives: tuple[Alternative, ...] = ()


class PromptLogprobs(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="prompt_logprobs"
):
    """How likely each token of the prompt is, for a task that asks for it (`prompt_logprobs`).

    `tokens` are all of them, in their order. It is told once, and before any output.
    """

    tokens: tuple[PromptToken, ...]
    choice: int = 0


class Metrics(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="metrics"):
    """Figures about the running task; `engine` holds the engine's own under the engine's own names.

    `tokens_in` and `tokens_out` are what was counted so far. With `running_usage` they come before the output whose
    tokens they count.
    """

    time_to_first_token_ms: float | None = None
    queue_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    engine: dict[str, float | int | str | bool] = {}


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The task is done. `unknown` is honest: `stop` is never claimed when the engine did not say so.

    `tool_calls`: the model waits for the results of the calls it made. The stream guard fills `timings` when the
    adapter leaves them out. `stop_reason` is the stop string, or the id of the token, that ended the answer, where the
    engine tells it.
    """

    finish_reason: FinishReason
    usage: Usage = Usage()
    timings: Timings | None = None
    stop_reason: str | int | None = None


class Error(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """The task failed. `code` is one of `adapter_api.errors`; `stage` says which deadline ran out."""

    code: str
    message: str
    retryable: bool
    retry_after_s: float | None = None
    stage: DeadlineStage | None = None

    @classmethod
    def from_exception(cls, exc: AdapterError) -> Error:
        """Return the event that tells `exc`."""
        return cls(
            code=exc.code,
            message=exc.message,
            retryable=exc.retryable,
            retry_after_s=exc.retry_after_s,
            stage=exc.stage if isinstance(exc, DeadlineExceeded) else None,
        )


TokenEvent = Started | Token | Reasoning | ToolCallDelta | TokenIds | PromptLogprobs | Metrics | End | Error
Output = Token | Reasoning | ToolCallDelta
"""What the engine generates. A task that has said some of it is not tried again."""
Terminal = End | Error


class UnknownEvent(ValueError):
    """An event of a later minor version of the contract: whoever reads events passes over it."""


class _Tagged(msgspec.Struct):
    type: str


_TYPES = frozenset({
    "started", "token", "reasoning", "tool_call", "token_ids", "prompt_logprobs", "metrics", "end", "error",
})  # fmt: skip
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[TokenEvent] = msgspec.json.Decoder(TokenEvent)


def event_type(event: object) -> str:
    """Return the `type` in an event's JSON form; the name of its class for anything else."""
    if isinstance(event, TokenEvent):
        return str(type(event).__struct_config__.tag)
    return type(event).__name__


def encode_event(event: TokenEvent) -> bytes:
    """Return the JSON form of an event: one object, no line break in it."""
    return _encoder.encode(event)


def decode_event(line: bytes | str) -> TokenEvent:
    """Return the event of a JSON form.

    Raises:
        UnknownEvent: Its `type` is none of this version; a reader passes over it.
        ValueError: It is no event.
    """
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError as exc:
        if (kind := _type_in(line)) is not None and kind not in _TYPES:
            raise UnknownEvent(f"not a TokenEvent of this version: its type is {kind[:64]!r}") from exc
        raise ValueError(f"not a TokenEvent: {exc}") from exc


def _type_in(line: bytes | str) -> str | None:
    try:
        return msgspec.json.decode(line, type=_Tagged).type
    except (msgspec.MsgspecError, ValueError):
        return None


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema of `TokenEvent`."""
    schema = msgspec.json.schema(TokenEvent)
    level_descriptions(schema["$defs"])
    return schema
