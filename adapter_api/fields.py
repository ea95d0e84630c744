"""Whether the fields of what an adapter says hold what the contract says: types, finite numbers, whole counts.

The guard looks at every event but the plainest tokens, whose few fields it looks at itself (`stream.py`): one more
call per token is too much. Events are not validated when they are made, which would cost more than making them.
"""

from __future__ import annotations

from functools import cache
from math import isfinite
from typing import Any, get_args

import msgspec

from adapter_api.bounds import MAX_TOKEN_ID
from adapter_api.cancel import CancelReceipt
from adapter_api.errors import ProtocolViolation
from adapter_api.events import (
    Alternative,
    End,
    FinishReason,
    Metrics,
    PromptLogprobs,
    PromptToken,
    Reasoning,
    Started,
    Timings,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
    Usage,
    event_type,
)
from adapter_api.health import HealthReport
from adapter_api.props import EngineProps, ModelProps

_encode = msgspec.json.Encoder().encode
_COUNTS = frozenset(
    {
        "tokens_in",
        "tokens_out",
        "tokens_in_cached",
        "tokens_out_reasoning",
        "call",
        "choice",
        "token_id",
        "rank",
        "index",
        "queue_position",
        "slots_total",
        "slots_free",
        "queued",
        "in_flight",
    }
)


def require_sound(event: TokenEvent) -> None:
    """Raise `ProtocolViolation` naming the field of a lawful event that holds something else than it should."""
    try:
        if (is_plain := _PLAIN.get(type(event))) is not None and is_plain(event):
            return
        if type(event) is Token or type(event) is Reasoning:
            flaw = _flaw_of_text(event)
        elif type(event) is ToolCallDelta:
            flaw = _flaw_of_tool_call(event)
        elif type(event) is TokenIds:
            flaw = "prompt or output holds something else than token ids, or its choice is another one"
        else:
            flaw = _flaw_of(event)
    except Exception as exc:  # a field that cannot even be looked at
        flaw = f"fields are wrong: {type(exc).__name__}"
    if flaw is not None:
        raise ProtocolViolation(f"{_with_article(event_type(event))} whose {flaw}")


def flaw_of(value: object) -> str | None:
    """Return what is wrong about the fields of a record that an adapter returned, as its JSON form shows it."""
    if not isinstance(value, CancelReceipt | EngineProps | HealthReport | ModelProps):
        return None  # tensors are checked where they are made
    try:
        return _flaw_of_numbers(value, "") or _flaw_of_form(value, type(value))
    except Exception as exc:
        return f"fields are wrong: {type(exc).__name__}"


def _flaw_of_text(token: Token | Reasoning) -> str | None:
    """Spelt out, because tokens with log probabilities, and what a model thinks, come here one by one."""
    if type(token.index) is not int:
        return f"index is {_kind(token.index)} and not a whole number"
    if not isinstance(token.text, str):
        return f"text is {_kind(token.text)} and not a string"
    if token.logprob is not None and not _is_number(token.logprob):
        return f"logprob is {_kind(token.logprob)} and not a finite number"
    alternatives = token.alternatives if isinstance(token, Token) else ()
    if token.token_id is None and token.choice == 0 and not alternatives:
        return None
    for alternative in alternatives:
        if not isinstance(alternative, Alternative):
            return f"alternatives hold {_kind(alternative)}"
    return _flaw_of(token)


def _flaw_of_tool_call(piece: ToolCallDelta) -> str | None:
    """Spelt out, because arguments may come token by token."""
    if type(piece.arguments) is not str:
        return f"arguments are {_kind(piece.arguments)} and not a string"
    if type(piece.call) is int and piece.id is piece.name is None and piece.choice == 0 and piece.arguments.isascii():
        return None
    return _flaw_of(piece)


def _is_plain_started(event: Started) -> bool:
    """Whether nothing can be wrong about it, which is so of most; of the others the long way finds out what is."""
    if not (
        type(event.job_id) is str is type(event.engine) is type(event.model)
        and event.seed is None
        and (event.queue_position is None or _is_plain_count(event.queue_position))
        and (event.predicted_start_ms is None or _is_time(event.predicted_start_ms))
    ):
        return False
    texts = [event.job_id, event.engine, event.model]
    for text in (event.engine_version, event.model_version, event.pool_id, event.replica_id):
        if text is not None:
            texts.append(text)
    try:
        return "".join(texts).isascii()
    except TypeError:  # one of them is no text
        return False


def _is_plain_metrics(event: Metrics) -> bool:
    return (
        type(event.engine) is dict
        and not event.engine
        and (event.queue_ms is None or _is_time(event.queue_ms))
        and _is_time(event.time_to_first_token_ms)
        and (event.tokens_in is None or _is_plain_count(event.tokens_in))
        and (event.tokens_out is None or _is_plain_count(event.tokens_out))
    )


def _is_plain_token_ids(event: TokenIds) -> bool:
    """In a few calls, however many there are."""
    return event.choice == 0 and _are_ids(event.prompt) and _are_ids(event.output)


def _is_plain_prompt_logprobs(event: PromptLogprobs) -> bool:
    """Token by token and without making any JSON of it: there may be a hundred thousand, with alternatives each."""
    return (
        event.choice == 0
        and type(event.tokens) is tuple
        and all(
            type(token) is PromptToken
            and _is_scored(token)
            and type(token.alternatives) is tuple
            and all(
                type(other) is Alternative and type(other.logprob) is float and _is_scored(other)
                for other in token.alternatives
            )
            for token in event.tokens
        )
    )


def _is_scored(token: PromptToken | Alternative) -> bool:
    logprob = token.logprob
    return (
        type(token.text) is str
        and (token.text.isascii() or _is_text(token.text))
        and (logprob is None or (type(logprob) is float and isfinite(logprob)))
        and _is_plain_count(token.token_id)
        and _is_plain_count(token.rank)
    )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


def _are_ids(ids: object) -> bool:
    if type(ids) is not tuple:
        return False
    return not ids or (set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) <= MAX_TOKEN_ID)


def _is_plain_end(event: End) -> bool:
    usage = event.usage
    return (
        type(event.finish_reason) is str
        and event.finish_reason in _FINISH_REASONS
        and (event.timings is None or _is_plain_timings(event.timings))
        and type(usage) is Usage
        and (usage.tokens_in is None or _is_plain_count(usage.tokens_in))
        and (usage.tokens_out is None or _is_plain_count(usage.tokens_out))
        and (usage.tokens_in_cached is None or _is_plain_count(usage.tokens_in_cached))
        and (usage.tokens_out_reasoning is None or _is_plain_count(usage.tokens_out_reasoning))
    )


def _is_plain_timings(timings: Timings) -> bool:
    return (
        type(timings) is Timings
        and type(timings.total_ms) is float
        and isfinite(timings.total_ms)
        and _is_time(timings.time_to_first_token_ms)
        and _is_time(timings.decode_time_ms)
        and _is_time(timings.queue_ms)
    )


_PLAIN: dict[type, Any] = {
    Started: _is_plain_started, Metrics: _is_plain_metrics, TokenIds: _is_plain_token_ids, End: _is_plain_end,
    PromptLogprobs: _is_plain_prompt_logprobs,
}  # fmt: skip
_FINISH_REASONS = frozenset(get_args(FinishReason))
_MOST = 2**63


def _is_time(value: object) -> bool:
    return value is None or (type(value) is float and isfinite(value))


def _is_plain_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < _MOST)


def _flaw_of(event: TokenEvent) -> str | None:
    return _flaw_of_numbers(event, "") or _flaw_of_form(event, TokenEvent)


def _flaw_of_form(value: object, kind: Any) -> str | None:
    """Return what a reader in another process would stumble over: its text names types and the field."""
    try:
        _decoder(kind).decode(_encode(value))
    except UnicodeError:
        return "text is no Unicode"
    except (msgspec.MsgspecError, TypeError) as exc:
        return f"fields are wrong: {exc}"
    return None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Kept: to make one of a union costs more than to decode with it."""
    return msgspec.json.Decoder(kind)


def _flaw_of_numbers(value: Any, name: str) -> str | None:
    """Return what is wrong about the numbers in a struct, which its JSON form would hide."""
    if isinstance(value, float) and not isfinite(value):
        return f"{name} is not a finite number"
    if name in _COUNTS and isinstance(value, int) and (value < 0 or isinstance(value, bool)):
        return f"{name} is {value!r} and not a count"
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            part = getattr(value, field)
            if part is None or type(part) is str:  # as most are, and a call for each would be most of the work
                continue
            if (flaw := _flaw_of_numbers(part, field)) is not None:
                return flaw
        return None
    if isinstance(value, dict):
        parts: Any = value.items()
    elif isinstance(value, list | tuple):
        parts = ((name, part) for part in value)
    else:
        return None
    return next((flaw for field, part in parts if (flaw := _flaw_of_numbers(part, field)) is not None), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def _kind(value: object) -> str:
    return "missing" if value is None else f"not finite ({value})" if isinstance(value, float) else type(value).__name__
