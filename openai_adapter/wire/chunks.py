"""What engines answer, as far as it is read: one shape for chunks of a stream and for whole answers.

Every field may be absent or null, whatever the API's description says: some engine leaves it out. Fields of no use here
are not read at all, which is what makes a chunk cheap. What goes beside the answer (counts, names, places, log
probabilities) is taken in any shape and read where it is used: a figure that nobody can read costs no answer.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from adapter_api import ProtocolViolation


class Function(msgspec.Struct, gc=False):
    """A piece of a function call; some engines give the arguments as an object, whole."""

    name: str | None = None
    arguments: Any = None


class ToolCallPiece(msgspec.Struct, gc=False):
    """A piece of one tool call; `index` is its place, where the engine tells it."""

    index: Any = None
    id: Any = None
    function: Function | None = None


class Part(msgspec.Struct, gc=False):
    """A part of a content that is a list: text, or thinking, whose text may again be in parts."""

    text: str | None = None
    thinking: str | list[Part] | None = None


class Delta(msgspec.Struct, gc=False):
    """What is new in a chunk; also the message of a whole answer."""

    content: str | list[Part | str] | Part | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[ToolCallPiece] | None = None
    function_call: Function | None = None


class TokenLogprob(msgspec.Struct, gc=False):
    """One token with its log probability, and the likeliest ones in its place."""

    token: str | None = None
    logprob: float | None = None
    bytes: list[int] | None = None
    id: int | None = None
    top_logprobs: list[TokenLogprob] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Of a chat in `content`, of a completion in lists side by side; llama.cpp tells both in `content`."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(msgspec.Struct, gc=False):
    """One choice: `delta` in a chunk of a chat, `message` in a whole one, `text` in a completion."""

    index: Any = None
    delta: Delta | None = None
    text: str | None = None
    finish_reason: Any = None
    engine_finish_reason: Any = None
    stop_reason: Any = None
    logprobs: Any = None
    message: Delta | None = None
    token_ids: Any = None
    prompt_token_ids: Any = None
    prompt_logprobs: Any = None


class Counts(msgspec.Struct, gc=False):
    """Tokens as the engine counts them; `None` where it does not."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt's."""
    reasoning_tokens: int | None = None
    """Of the answer's."""


class Chunk(msgspec.Struct, gc=False):
    """One message of a stream, or a whole answer, or an error: see `is_error`."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    message: Any = None
    msg: Any = None
    detail: Any = None
    code: Any = None
    type: Any = None
    prompt_token_ids: Any = None
    prompt_logprobs: Any = None
    system_fingerprint: Any = None

    @property
    def is_error(self) -> bool:
        """Whether it is an error rather than a part of an answer: it says so, or has a message and no choices."""
        # An engine may say with every chunk that there is none: false, an empty text, an empty object.
        if self.choices is not None:
            return bool(self.error)
        if self.msg is not None and str(self.code or 200) not in ("200", "0"):
            return True
        return isinstance(self.message, str) or self.error is not None or self.detail is not None


_decode = msgspec.json.Decoder(Chunk).decode


def decode_chunk(data: bytes) -> Chunk:
    """Return the chunk in a JSON text.

    Raises:
        ProtocolViolation: It is none; the message says where and never repeats the text, which may be a user's.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        return _decode_patiently(data, exc)


def is_done(data: bytes) -> bool:
    """Whether the data of an event says that no more comes."""
    return len(data) < 16 and data.strip() == b"[DONE]"


def counts(usage: Any) -> Counts | None:
    """Return what an engine counted, as far as it can be read."""
    if not isinstance(usage, dict):
        return None
    return Counts(
        whole(usage.get("prompt_tokens")),
        whole(usage.get("completion_tokens")),
        _detail(usage.get("prompt_tokens_details"), "cached_tokens"),
        _detail(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _detail(details: Any, name: str) -> int | None:
    return whole(details.get(name)) if isinstance(details, dict) else None


def token_ids(value: Any) -> tuple[int, ...]:
    """Return the ids of a choice, none where it tells none.

    Raises:
        ProtocolViolation: They are something else than ids.
    """
    if not value:
        return ()
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # of the one prompt that was sent, by engines that tell several
    if not (isinstance(value, list) and set(map(type, value)) == {int} and 0 <= min(value) <= max(value) < 1 << 31):
        raise ProtocolViolation("the engine sent token ids that are none")
    return tuple(value)


def logprobs(value: Any) -> Logprobs | None:
    """Return the log probabilities of a choice; `None` when they are none that can be read."""
    if value is None:
        return None
    try:
        return msgspec.convert(value, Logprobs)
    except (msgspec.MsgspecError, RecursionError):
        return None


def whole(value: Any) -> int | None:
    """Return a whole number that is not negative, also out of a text or a number with a point."""
    if type(value) is int:
        found = value
    elif isinstance(value, float) and value.is_integer():
        found = int(value)
    elif isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        found = int(value)
    else:
        return None
    return found if 0 <= found < 1 << 53 else None


def _decode_patiently(data: bytes, cause: Exception) -> Chunk:
    """Read it once more by a reader that takes half a character: servers cut between the two halves of an escape, or
    between the bytes of a character."""
    text = data.decode(errors="replace")
    try:
        return msgspec.convert(json.loads(text, parse_constant=_refuse), Chunk)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        what = "an HTML page" if text.lstrip()[:1] == "<" else "something else"
        raise ProtocolViolation(
            f"the engine sent {what} where a chunk of its answer was due: {len(data)} bytes, {_flaw(cause)}"
        ) from cause


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _flaw(cause: Exception) -> str:
    return type(cause).__name__ if isinstance(cause, RecursionError) else str(cause)
