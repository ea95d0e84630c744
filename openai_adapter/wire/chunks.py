"""What engines answer, as far as it is read: one shape for chunks of a stream and for whole answers.

Every field may be absent or null, whatever the API's description says: some engine leaves it out. Fields of no use here
are not read at all, which is what makes a chunk cheap.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from adapter_api import ProtocolViolation


class Function(msgspec.Struct, gc=False):
    """A piece of a function call; some engines give the arguments as an object, whole."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallPiece(msgspec.Struct, gc=False):
    """A piece of one tool call; `index` is its place, where the engine tells it."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Part(msgspec.Struct, gc=False):
    """A part of a content that is a list: text, or thinking, whose text may again be in parts."""

    type: str = "text"
    text: str | None = None
    thinking: str | list[Part] | None = None


class Delta(msgspec.Struct, gc=False):
    """What is new in a chunk; also the message of a whole answer."""

    content: str | list[Part] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
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

    index: int | None = None
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    message: Delta | None = None


class Counts(msgspec.Struct, gc=False):
    """Tokens as the engine counts them."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None


class Chunk(msgspec.Struct, gc=False):
    """One message of a stream, or a whole answer, or an error: see `is_error`."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    message: str | None = None
    detail: Any = None
    code: int | str | None = None
    type: str | None = None
    system_fingerprint: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether it is an error rather than a part of an answer: it says so, or has a message and no choices."""
        if self.choices is not None:
            return self.error is not None
        return self.error is not None or self.message is not None or self.detail is not None


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
