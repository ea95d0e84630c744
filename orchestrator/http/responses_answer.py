"""From the events of a task to the items of a response, and to what its stream tells of them. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapter_api import End, Error, Message, Reasoning, Token, TokenEvent, ToolCall, ToolCallDelta, Usage
from adapter_kit.openai.answers import logprobs_of, more_of
from orchestrator.http.namespaces import Spaces, flat_name
from orchestrator.http.problems import status_of
from orchestrator.sessions.responses import Status

Emit = Callable[[str, Mapping[str, Any]], None]
"""Told the type of each event of the stream, and its fields."""

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ERROR_CODES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}
"""Words that OpenAI's clients know; everything else is a `server_error`."""


def _nobody(kind: str, fields: Mapping[str, Any]) -> None: ...


class _Open:
    """The item that is being written."""

    def __init__(self, place: int, item: dict[str, Any]) -> None:
        self.place = place
        self.item = item
        self.texts: list[str] = []
        self.tokens: list[Token] = []

    @property
    def kind(self) -> str:
        return str(self.item["type"])

    @property
    def id(self) -> str:
        return str(self.item["id"])


class ResponseAnswer:
    """Takes in the events of one task."""

    def __init__(
        self, head: Mapping[str, Any], name: str, *, logprobs: bool, emit: Emit = _nobody, spaces: Spaces | None = None
    ) -> None:
        self.head = dict(head)
        self.items: list[dict[str, Any]] = []
        self.status: Status = "in_progress"
        self._name = name
        self._logprobs = logprobs
        self._emit = emit
        self._spaces = spaces or {}
        self._words: _Open | None = None
        """What is being said or thought."""
        self._calling: _Open | None = None
        """The call that is being made: until the next one begins there may be more of it, also after words."""
        self._thoughts = 0
        self._more: dict[str, Any] = {}

    @property
    def body(self) -> dict[str, Any]:
        """The response without its output, as it is now."""
        return {
            **self.head,
            "status": self.status,
            "error": None,
            "incomplete_details": None,
            "usage": None,
            **self._more,
        }

    @property
    def response(self) -> dict[str, Any]:
        """The response as it is now."""
        return {**self.body, "output": self.items}

    @property
    def answered(self) -> Message:
        """What was answered, as a conversation has it: without thoughts, and calls that were cut off."""
        texts = [part["text"] for item in self.items if item["type"] == "message" for part in item["content"]]
        calls = tuple(
            ToolCall(id=item["call_id"], name=flat_name(item), arguments=item["arguments"])
            for item in self.items
            if item["type"] == "function_call" and item["status"] == "completed"
        )
        return Message(role="assistant", content="".join(texts) or (None if calls else ""), tool_calls=calls)

    def begin(self) -> None:
        for kind in ("response.created", "response.in_progress"):
            self._emit(kind, {"response": self.response})

    def read(self, event: TokenEvent) -> None:
        if isinstance(event, Token):
            self._text(event)
        elif isinstance(event, Reasoning):
            self._thought(event)
        elif isinstance(event, ToolCallDelta):
            self._call(event)
        elif isinstance(event, End):
            self._end(event)
        elif isinstance(event, Error):
            self._fail(event)

    def conclude(self) -> None:
        """Tell that it has ended."""
        kind = self.status if self.status in ("completed", "failed") else "incomplete"
        self._emit(f"response.{kind}", {"response": self.response})

    def leave(self) -> None:
        """End it for a reader who has gone."""
        if self.status == "in_progress":
            self._end(End(finish_reason="cancelled"))

    # -- items --------------------------------------------------------------------------------------------------------

    def _text(self, token: Token) -> None:
        written = self._saying("message") or self._begin_message()
        written.texts.append(token.text)
        logprobs: list[Any] = []
        if self._logprobs:
            written.tokens.append(token)
            logprobs = _logprobs([token])
        self._emit(
            "response.output_text.delta",
            {
                "item_id": written.id, "output_index": written.place, "content_index": 0, "delta": token.text,
                "logprobs": logprobs,
            },
        )  # fmt: skip

    def _thought(self, thought: Reasoning) -> None:
        self._thoughts += 1
        written = self._saying("reasoning")
        if written is None:
            written = self._words = self._open({"type": "reasoning", "summary": [], "content": []}, "rs")
            self._part("added", written, {"type": "reasoning_text", "text": ""})
        written.texts.append(thought.text)
        self._emit("response.reasoning_text.delta", {**_place(written), "content_index": 0, "delta": thought.text})

    def _call(self, piece: ToolCallDelta) -> None:
        written = self._calling if piece.name is None else None
        if written is None:
            self._close(self._calling, "completed")
            item = {"type": "function_call", "call_id": piece.id, "name": piece.name, "arguments": ""}
            if (named := self._spaces.get(piece.name or "")) is not None:
                item["namespace"], item["name"] = named
            written = self._calling = self._open(item, "fc")
        if piece.arguments:
            written.texts.append(piece.arguments)
            self._emit("response.function_call_arguments.delta", {**_place(written), "delta": piece.arguments})

    def _saying(self, kind: str) -> _Open | None:
        """Return the item of words that is being written, if it is of that kind."""
        return self._words if self._words is not None and self._words.kind == kind else None

    def _begin_message(self) -> _Open:
        written = self._words = self._open({"type": "message", "role": "assistant", "content": []}, "msg")
        self._part("added", written, {"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        return written

    def _open(self, item: dict[str, Any], prefix: str) -> _Open:
        self._close(self._words, "completed")
        self._words = None
        place = len(self.items)
        item = {"id": f"{prefix}_{self._name}_{place}", "status": "in_progress", **item}
        self.items.append(item)
        self._emit("response.output_item.added", {"output_index": place, "item": item})
        return _Open(place, item)

    def _close_all(self, status: Status) -> None:
        """Close what is open, in its order; only the last of it can be cut off."""
        left = [each for each in (self._calling, self._words) if each is not None]
        left.sort(key=lambda each: each.place)
        for each in left:
            self._close(each, status if each is left[-1] else "completed")
        self._calling = self._words = None

    def _close(self, written: _Open | None, status: Status) -> None:
        if written is None:
            return
        text, item = "".join(written.texts), written.item
        place = {**_place(written), "content_index": 0}
        if written.kind == "message":
            logprobs = _logprobs(written.tokens)
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
            item["content"] = [part]
            self._emit("response.output_text.done", {**place, "text": text, "logprobs": logprobs})
            self._part("done", written, part)
        elif written.kind == "reasoning":
            part = {"type": "reasoning_text", "text": text}
            item["content"] = [part]
            self._emit("response.reasoning_text.done", {**place, "text": text})
            self._part("done", written, part)
        else:
            item["arguments"] = text
            done = {**_place(written), "name": item["name"], "arguments": text}
            self._emit("response.function_call_arguments.done", done)
        item["status"] = status
        self._emit("response.output_item.done", {"output_index": written.place, "item": item})

    def _part(self, what: str, written: _Open, part: Mapping[str, Any]) -> None:
        self._emit(f"response.content_part.{what}", {**_place(written), "content_index": 0, "part": part})

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _end(self, end: End) -> None:
        reason = _INCOMPLETE.get(end.finish_reason)
        self.status = (
            "cancelled" if end.finish_reason == "cancelled" else "completed" if reason is None else "incomplete"
        )
        if not self.items:
            self._begin_message()
        self._close_all("completed" if self.status == "completed" else "incomplete")
        self._more = {"usage": self._usage(end.usage), **more_of(end)}
        if self.status != "completed":
            self._more["incomplete_details"] = None if reason is None else {"reason": reason}

    def _fail(self, error: Error) -> None:
        self.status = "failed"
        self._close_all("incomplete")
        code = _ERROR_CODES.get(status_of(error.code), "server_error")
        self._more = {"error": {"code": code, "message": error.message, "engine_code": error.code}}

    def _usage(self, usage: Usage) -> dict[str, Any] | None:
        """`None` where the engine does not count: made-up figures would be billed."""
        if usage.tokens_in is None or usage.tokens_out is None:
            return None
        return {
            "input_tokens": usage.tokens_in,
            "input_tokens_details": {"cached_tokens": usage.tokens_in_cached or 0, "cache_write_tokens": 0},
            "output_tokens": usage.tokens_out,
            "output_tokens_details": {"reasoning_tokens": self._reasoning_tokens(usage)},
            "total_tokens": usage.tokens_in + usage.tokens_out,
        }

    def _reasoning_tokens(self, usage: Usage) -> int:
        """Return how many tokens are thoughts; where the engine tells none, the pieces it cut them into, no more than
        all."""
        if usage.tokens_out_reasoning is not None:
            return usage.tokens_out_reasoning
        return min(self._thoughts, usage.tokens_out or 0)


def _place(written: _Open) -> dict[str, Any]:
    return {"item_id": written.id, "output_index": written.place}


def _logprobs(tokens: list[Token]) -> list[Any]:
    return list(logprobs_of("chat", tokens)["content"]) if tokens else []
