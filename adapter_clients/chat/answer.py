"""What a question came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from adapter_api import (
    End,
    FinishReason,
    Message,
    Reasoning,
    Started,
    Timings,
    Token,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    gather_tool_calls,
)

_WHOLE = frozenset({"tool_calls", "stop", "unknown"})
"""How an answer ends whose tool calls are not cut off."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A model's answer. `None` and `unknown` mean that the engine did not say.

    `text` is the answer, `reasoning` what was thought apart from it. `tool_calls` are the calls that the model waits
    for, each whole; those of an answer that was cut off are left out. `time_s` is how long it took from its sending,
    `time_to_first_token_s` until there was something to read. `cancelled` answers hold what was said until then, and
    are not in the history.
    """

    text: str
    finish_reason: FinishReason
    time_s: float
    model: str
    job_id: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    time_to_first_token_s: float | None = None
    engine: str | None = field(default=None)

    @property
    def cancelled(self) -> bool:
        return self.finish_reason == "cancelled"

    @property
    def message(self) -> Message:
        """The answer as a turn of the conversation; what was thought is no part of it."""
        content = None if self.tool_calls and not self.text else self.text
        return Message(role="assistant", content=content, tool_calls=self.tool_calls)

    def __str__(self) -> str:
        return self.text


class Listener:
    """Puts an answer together from its events."""

    def __init__(self, model: str, job_id: str) -> None:
        self._model, self._job_id = model, job_id
        self._engine: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCallDelta] = []

    def hear(self, events: Iterable[TokenEvent]) -> None:
        for event in events:
            if isinstance(event, Token):
                self._text.append(event.text)
            elif isinstance(event, Reasoning):
                self._reasoning.append(event.text)
            elif isinstance(event, ToolCallDelta):
                self._calls.append(event)
            elif isinstance(event, Started):
                self._engine, self._model = event.engine, event.model

    def answer(self, end: End) -> ChatAnswer:
        """Return the whole answer."""
        timings = end.timings or Timings(total_ms=0.0)
        first_ms = timings.time_to_first_token_ms
        return ChatAnswer(
            text="".join(self._text),
            finish_reason=end.finish_reason,
            time_s=timings.total_ms / 1e3,
            model=self._model,
            job_id=self._job_id,
            reasoning="".join(self._reasoning),
            tool_calls=gather_tool_calls(self._calls) if end.finish_reason in _WHOLE else (),
            tokens_in=end.usage.tokens_in,
            tokens_out=end.usage.tokens_out,
            time_to_first_token_s=None if first_ms is None else first_ms / 1e3,
            engine=self._engine,
        )
