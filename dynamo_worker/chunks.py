"""A task's events as the chunks of OpenAI's streams, which Dynamo's frontend passes on or gathers. No I/O.

A chunk costs Dynamo a tenth of a millisecond on its way out of Python, a hundred times what it takes to make one. So
what is ready together is told together: texts in one chunk, and the finish reason with the last of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from adapter_api import End, Reasoning, Token, TokenEvent, ToolCallDelta
from adapter_kit.openai.answers import (
    Kind,
    finish_reason_of,
    logprobs_of,
    no_piece,
    piece_of_text,
    piece_of_tool_call,
    usage_of,
)
from dynamo_worker.prompts import Asked


class Chunks:
    """Makes the chunks of one answer."""

    def __init__(self, asked: Asked, model: str) -> None:
        self._kind: Kind = "chat" if asked.chat else "text"
        self._usage, self._logprobs = asked.usage, asked.task.logprobs is not None
        self._called, self._offset = False, 0
        self._head = {
            "id": ("chatcmpl-" if asked.chat else "cmpl-") + asked.task.job_id,
            "object": "chat.completion.chunk" if asked.chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._first: dict[str, Any] = {"role": "assistant"} if asked.chat else {}

    def of(self, events: Iterable[TokenEvent]) -> list[dict[str, Any]]:
        """Return the chunks that tell of events that are ready together: none for what OpenAI has no place for."""
        chunks: list[dict[str, Any]] = []
        text: str | None = None
        for event in events:
            if isinstance(event, Token) and not self._logprobs:
                text = event.text if text is None else text + event.text
            elif isinstance(event, End):
                return chunks + self._end(event, text)
            else:
                if text is not None:
                    chunks.append(self._choice(piece_of_text(self._kind, text)))
                    text = None
                if (said := self._other(event)) is not None:
                    chunks.append(said)
        if text is not None:
            chunks.append(self._choice(piece_of_text(self._kind, text)))
        return chunks

    def _other(self, event: TokenEvent) -> dict[str, Any] | None:
        if isinstance(event, Token):
            return self._choice(piece_of_text(self._kind, event.text), logprobs=self._scored(event))
        if self._kind == "text":
            return None  # to Dynamo's frontend a completion is text alone
        if isinstance(event, Reasoning):
            # Under this name alone: the frontend takes `reasoning` for the same field, given twice.
            return self._choice({"delta": {"reasoning_content": event.text}})
        if isinstance(event, ToolCallDelta):
            self._called = True
            return self._choice(piece_of_tool_call(self._kind, event))
        return None

    def _end(self, end: End, text: str | None) -> list[dict[str, Any]]:
        # A reason that the engine does not tell is left out: none of OpenAI's would be true, and the frontend passes on
        # no word of ours beside it.
        reason = finish_reason_of(end, calls=self._called)
        told = end.finish_reason not in ("unknown", "cancelled") or reason == "tool_calls"
        last = no_piece(self._kind) if text is None else piece_of_text(self._kind, text)
        chunks = [self._choice(last, reason if told else None)]
        if self._usage and (usage := usage_of(end.usage)) is not None:
            chunks.append({**self._head, "choices": [], "usage": usage})
        return chunks

    def _choice(self, said: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        if self._first:
            said, self._first = {"delta": {**self._first, **said["delta"]}}, {}
        return {**self._head, "choices": [{"index": 0, **said, "finish_reason": reason, "logprobs": logprobs}]}

    def _scored(self, token: Token) -> dict[str, Any] | None:
        if token.logprob is None:
            return None
        scored = logprobs_of(self._kind, [token], self._offset)
        self._offset += len(token.text)
        if self._kind == "text":
            scored["top_logprobs"] = scored["top_logprobs"] or []  # the frontend takes no null
        return scored
