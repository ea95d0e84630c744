"""What a task says while it runs: `started · token* · metrics* · end | error`.

Events are msgspec structs rather than pydantic models because one is made per token: about 0.08 µs against
1 µs (measured; see `benchmarks/`). Their JSON form is one object with `"type"`; the JSON Schema is committed in
`adapter_api/schemas/token_event.json`. `None` always means "the engine did not say", `0` a measured zero.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import msgspec

from adapter_api.errors import AdapterError, DeadlineExceeded, DeadlineStage

FinishReason = Literal["stop", "length", "cancelled", "tool_calls", "content_filter", "unknown"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens counted by the engine itself; `None` where it does not count."""

    tokens_in: int | None = None
    tokens_out: int | None = None


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """How long the task took as its submitter saw it, in milliseconds from `submit`.

    `time_to_first_token_ms` is `None` when no token came; `decode_time_ms` runs from the first token to the last.
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
    """A token that the engine could have chosen in a place; `logprob` is the natural logarithm of its probability."""

    text: str
    logprob: float
    token_id: int | None = None


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


class Metrics(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="metrics"):
    """Figures about the running task; `engine` holds the engine's own under the engine's own names."""

    time_to_first_token_ms: float | None = None
    queue_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    engine: dict[str, float | int | str | bool] = {}


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The task is done. `unknown` is honest: `stop` is never claimed when the engine did not say so.

    The stream guard fills `timings` when the adapter leaves them out.
    """

    finish_reason: FinishReason
    usage: Usage = Usage()
    timings: Timings | None = None


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


TokenEvent = Started | Token | Metrics | End | Error
Terminal = End | Error

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[TokenEvent] = msgspec.json.Decoder(TokenEvent)


def encode_event(event: TokenEvent) -> bytes:
    """Return the JSON form of an event: one object, no line break in it."""
    return _encoder.encode(event)


def decode_event(line: bytes | str) -> TokenEvent:
    """Return the event of a JSON form; raises `ValueError` when it is none."""
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"not a TokenEvent: {exc}") from exc


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema of `TokenEvent`."""
    schema = msgspec.json.schema(TokenEvent)
    # From Python 3.13 on the compiler takes the indentation out of docstrings; before that it is ours to do.
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema
