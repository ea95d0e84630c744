"""A task's events as the chunks of OpenAI's streams, which Dynamo's frontend passes on or gathers. No I/O."""

from __future__ import annotations

import time
from typing import Any

from adapter_api import Alternative, End, Reasoning, Token, TokenEvent, ToolCallDelta
from dynamo_worker.prompts import Asked


class Chunks:
    """Makes the chunks of one answer."""

    def __init__(self, asked: Asked, model: str) -> None:
        chat = asked.chat
        self._asked, self._chat, self._called = asked, chat, False
        self._head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + asked.task.job_id,
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._first: dict[str, Any] = {"role": "assistant"} if chat else {}

    def of(self, event: TokenEvent) -> list[dict[str, Any]]:
        """Return the chunks that tell an event: none for what an OpenAI answer has no place for."""
        if isinstance(event, Token):
            said = {"content": event.text} if self._chat else {"text": event.text}
            return [self._choice(said, logprobs=self._logprobs(event))]
        if isinstance(event, End):
            return self._end(event)
        if not self._chat:
            return []  # a completion is text alone
        if isinstance(event, Reasoning):
            return [self._choice({"reasoning_content": event.text})]
        if isinstance(event, ToolCallDelta):
            self._called = True
            function = {"arguments": event.arguments} | ({} if event.name is None else {"name": event.name})
            call = {"index": event.call, "function": function}
            if event.name is not None:
                call |= {"id": event.id, "type": "function"}
            return [self._choice({"tool_calls": [call]})]
        return []

    def _end(self, end: End) -> list[dict[str, Any]]:
        # Some engines say `stop` after tool calls, and clients run them at `tool_calls` only. A reason that the engine
        # does not tell is left out: none of OpenAI's would be true.
        reason = "tool_calls" if self._called and end.finish_reason == "stop" else end.finish_reason
        known = reason in ("stop", "length", "tool_calls", "content_filter")
        chunks = [self._choice({} if self._chat else {"text": ""}, reason if known else None)]
        usage = end.usage
        if self._asked.usage and usage.tokens_in is not None and usage.tokens_out is not None:
            counts = {
                "prompt_tokens": usage.tokens_in, "completion_tokens": usage.tokens_out,
                "total_tokens": usage.tokens_in + usage.tokens_out,
            }  # fmt: skip
            chunks.append({**self._head, "choices": [], "usage": counts})
        return chunks

    def _choice(self, said: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": logprobs}
        if self._chat:
            if self._first:
                said, self._first = {**self._first, **said}, {}
            choice["delta"] = said
        else:
            choice |= said
        return {**self._head, "choices": [choice]}

    def _logprobs(self, token: Token) -> dict[str, Any] | None:
        if self._asked.task.logprobs is None or token.logprob is None:
            return None
        if not self._chat:
            top = {each.text: each.logprob for each in token.alternatives}
            return {
                "tokens": [token.text], "token_logprobs": [token.logprob], "top_logprobs": [top] if top else [],
                "text_offset": [],
            }  # fmt: skip
        scored_of: tuple[Token | Alternative, ...] = (token, *token.alternatives)
        scored = [
            {"token": each.text, "logprob": each.logprob, "bytes": list(each.text.encode())} for each in scored_of
        ]
        return {"content": [{**scored[0], "top_logprobs": scored[1:]}]}
