"""What the OpenAI API's answers say of a task's events: pieces of a stream, and whole choices. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal

from adapter_api import (
    Alternative,
    End,
    PromptLogprobs,
    PromptToken,
    Reasoning,
    Token,
    TokenEvent,
    TokenIds,
    ToolCall,
    ToolCallDelta,
    Usage,
    gather_tool_calls,
)

Kind = Literal["chat", "text"]


def no_piece(kind: Kind) -> dict[str, Any]:
    """Return the part of a chunk's choice that says nothing."""
    return {"delta": {}} if kind == "chat" else {"text": ""}


def piece_of_text(kind: Kind, text: str) -> dict[str, Any]:
    return {"delta": {"content": text}} if kind == "chat" else {"text": text}


def piece_of_thought(kind: Kind, text: str) -> dict[str, Any]:
    return _beside_text(kind, reasoning_of(text))


def piece_of_tool_call(kind: Kind, piece: ToolCallDelta) -> dict[str, Any]:
    """Return a piece of a tool call; what the first one says is not said again, for clients join it."""
    call: dict[str, Any] = {"index": piece.call}
    if piece.name is not None:
        call |= {"id": piece.id, "type": "function"}
    call["function"] = ({} if piece.name is None else {"name": piece.name}) | {"arguments": piece.arguments}
    return _beside_text(kind, {"tool_calls": [call]})


def ids_of(events: Iterable[TokenEvent]) -> tuple[list[int], list[int]]:
    """Return the token ids of the prompt and of the answer that the events tell."""
    told = [event for event in events if isinstance(event, TokenIds)]
    return [each for event in told for each in event.prompt], [each for event in told for each in event.output]


def prompt_logprobs_of(events: Iterable[TokenEvent]) -> tuple[PromptToken, ...]:
    """Return the tokens of the prompt, as far as the events tell how likely they are."""
    return next((event.tokens for event in events if isinstance(event, PromptLogprobs)), ())


def scores_of(tokens: Sequence[PromptToken]) -> list[dict[str, Any] | None]:
    """Return the tokens of a prompt as vLLM's server tells them: of each place what was likely there, by the token's
    id, the prompt's own first."""
    return [
        None
        if token.logprob is None
        else {_key(token): _place(token)}
        | {key: _place(other) for other in token.alternatives if (key := _key(other)) != _key(token)}
        for token in tokens
    ]


def _key(token: PromptToken | Alternative) -> str:
    return token.text if token.token_id is None else str(token.token_id)


def _place(token: PromptToken | Alternative) -> dict[str, Any]:
    return {"logprob": token.logprob, "rank": token.rank, "decoded_token": token.text}


def whole_choice(
    kind: Kind,
    events: Sequence[TokenEvent],
    end: End,
    *,
    logprobs: bool,
    index: int = 0,
    echo: str = "",
    prompt: Sequence[PromptToken] = (),
    role: str = "assistant",
) -> dict[str, Any]:
    """Return a choice of a whole answer; `echo` stands before the text of a completion, and `prompt` before its scored
    tokens; `role` is that of a chat's."""
    tokens = [event for event in events if isinstance(event, Token)]
    text = "".join(token.text for token in tokens)
    thoughts = "".join(event.text for event in events if isinstance(event, Reasoning))
    calls = gather_tool_calls(events)
    more = (reasoning_of(thoughts) if thoughts else {}) | (
        {"tool_calls": list(map(_whole_call, calls))} if calls else {}
    )
    said: dict[str, Any] = {"text": echo + text, **more}
    if kind == "chat":
        said = {"message": {"role": role, "content": text or (None if more else ""), "refusal": None, **more}}
    return {
        "index": index,
        **said,
        "logprobs": logprobs_of(kind, [*prompt, *tokens]) if logprobs else None,
        "finish_reason": finish_reason_of(end, calls=bool(calls)),
        **end_of(end),
    }


def finish_reason_of(end: End, *, calls: bool) -> str:
    """Return why the answer ended, as clients know it. Some engines say `stop` after tool calls, or nothing at all;
    clients run them at `tool_calls` only, and fail at words that they do not know."""
    said = "stop" if end.finish_reason in _OURS else end.finish_reason
    return "tool_calls" if calls and said == "stop" and end.finish_reason != "cancelled" else said


def more_of(end: End) -> dict[str, str]:
    """Return the contract's own word for why the answer ended, where OpenAI has none for it."""
    return {"engine_finish_reason": end.finish_reason} if end.finish_reason in _OURS else {}


def end_of(end: End) -> dict[str, Any]:
    """Return what the end of a choice says beside its reason: what ended it, as vLLM's server has it, and that word."""
    return {"stop_reason": end.stop_reason, **more_of(end)}


_OURS = frozenset({"unknown", "cancelled"})


def _beside_text(kind: Kind, fields: dict[str, Any]) -> dict[str, Any]:
    return {"delta": fields} if kind == "chat" else {"text": "", **fields}


def reasoning_of(text: str) -> dict[str, str]:
    """Under both names that clients look for: vLLM's new one, and the one that DeepSeek began with."""
    return {"reasoning_content": text, "reasoning": text}


def _whole_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def logprobs_of(kind: Kind, tokens: Sequence[Token | PromptToken], offset: int = 0) -> dict[str, Any]:
    if kind == "chat":
        return {
            "content": [{**_scored(t), "top_logprobs": [_scored(other) for other in t.alternatives]} for t in tokens]
        }
    top = [_likely(token) for token in tokens]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": top if any(top) else None,
        "text_offset": [*accumulate((len(token.text) for token in tokens[:-1]), initial=offset)][: len(tokens)],
    }


def _likely(token: Token | PromptToken) -> dict[str, float] | None:
    """Return what was likely in a place. The token itself is always told, which makes one more than was asked for where
    it is none of the likeliest, as OpenAI's API and vLLM's server have it."""
    own = {} if token.logprob is None else {token.text: token.logprob}
    return own | {other.text: other.logprob for other in token.alternatives} or None


def _scored(token: Token | PromptToken | Alternative) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode())}


def usage_of(usage: Usage) -> dict[str, Any] | None:
    """`None` where the engine does not count: made-up figures would be billed."""
    if usage.tokens_in is None or usage.tokens_out is None:
        return None
    told: dict[str, Any] = {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens_in + usage.tokens_out,
    }
    if usage.tokens_in_cached is not None:
        told["prompt_tokens_details"] = {"cached_tokens": usage.tokens_in_cached}
    if usage.tokens_out_reasoning is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.tokens_out_reasoning}
    return told
