"""The law of a task's stream, as a state machine without I/O.

    stream := started (token | reasoning | tool_call | token_ids | prompt_logprobs | metrics)* (end | error)
            | error             the engine never accepted the task
            | end(cancelled)    the task was cancelled before it started

Tokens count 0, 1, 2, …, and reasoning and tool calls do so for themselves. A tool call's first piece has its name; a
piece belongs to the call before it or begins the next one. The ids of the prompt come once, before any output, and so
does how likely its tokens are. Nothing follows `end` or `error`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from adapter_api.bounds import MAX_NAME, MAX_PARTS
from adapter_api.errors import ProtocolViolation
from adapter_api.events import (
    End,
    Error,
    Metrics,
    PromptLogprobs,
    Reasoning,
    Started,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
    event_type,
)


class StreamGrammar:
    """Admits the events of one stream in order, or says which rule the next one breaks."""

    __slots__ = (
        "_calls", "_prompt_told", "_scores_told", "ended", "next_index", "next_reasoning", "running", "started",
    )  # fmt: skip

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.running = False
        """Whether output may come: started, and not ended."""
        self.next_index = 0
        self.next_reasoning = 0
        self._calls: _ToolCalls | None = None
        self._prompt_told = self._scores_told = False

    @property
    def outputs(self) -> int:
        """How many events of output there were."""
        return self.next_index + self.next_reasoning + (0 if self._calls is None else self._calls.pieces)

    def admit(self, event: TokenEvent) -> TokenEvent:
        """Take the next event and return it as its reader gets it; raises `ProtocolViolation` naming the rule it
        breaks, and stays as it was."""
        # What comes in order, first: the rest finds out what else it is.
        if self.running:
            if type(event) is Metrics:
                return event
            if type(event) is End:
                self.ended, self.running = True, False
                return event
        elif type(event) is Started and not self.started and not self.ended:
            self.started = self.running = True
            return event
        admitted = self._admit(event)
        self.running = self.started and not self.ended
        return admitted

    def end(self) -> None:
        """Admit nothing more."""
        self.ended, self.running = True, False

    def _admit(self, event: TokenEvent) -> TokenEvent:
        if self.ended:
            raise ProtocolViolation(f"{event_type(event)} after the end of the stream")
        if isinstance(event, Token | Reasoning | ToolCallDelta):
            return self._admit_output(event)
        if isinstance(event, Started):
            if self.started:
                raise ProtocolViolation("a second started")
            self.started = True
        elif isinstance(event, Error):
            self.ended = True
        elif isinstance(event, Metrics | TokenIds | PromptLogprobs | End):
            if not self.started and not _never_started(event):
                raise ProtocolViolation(f"{event_type(event)} before started")
            if isinstance(event, TokenIds) and event.prompt:
                self._admit_prompt()
            elif isinstance(event, PromptLogprobs):
                self._admit_scores()
            self.ended = isinstance(event, End)
        else:
            raise ProtocolViolation(f"{type(event).__name__} is not a TokenEvent")
        return event

    def _admit_prompt(self) -> None:
        if self._prompt_told:
            raise ProtocolViolation("the ids of the prompt a second time")
        if self.outputs:
            raise ProtocolViolation("the ids of the prompt after output")
        self._prompt_told = True

    def _admit_scores(self) -> None:
        if self._scores_told:
            raise ProtocolViolation("prompt_logprobs a second time")
        if self.outputs:
            raise ProtocolViolation("prompt_logprobs after output")
        self._scores_told = True

    def _admit_output(self, event: Token | Reasoning | ToolCallDelta) -> TokenEvent:
        if not self.started:
            raise ProtocolViolation(f"{event_type(event)} before started")
        if isinstance(event, ToolCallDelta):
            self._calls = self._calls or _ToolCalls()
            return self._calls.admit(event)
        due = self.next_index if isinstance(event, Token) else self.next_reasoning
        if event.index != due:
            raise ProtocolViolation(f"{event_type(event)} index {event.index} where {due} was due")
        if isinstance(event, Token):
            self.next_index += 1
        else:
            self.next_reasoning += 1
        return event


class _ToolCalls:
    """The calls of one answer, in order."""

    __slots__ = ("_id", "_ids", "_name", "count", "pieces")

    def __init__(self) -> None:
        self.count = self.pieces = 0
        self._name: str = ""
        self._id: str | None = None
        """As the engine gave it."""
        self._ids: set[str] = set()

    def admit(self, piece: ToolCallDelta) -> ToolCallDelta:
        if piece.call == self.count:
            piece = self._begun(piece)
        elif self.count and piece.call == self.count - 1:
            piece = self._continued(piece)
        else:
            due = f"{self.count - 1} or {self.count}" if self.count else "0"
            raise ProtocolViolation(f"a piece of tool call {piece.call} where {due} was due")
        self.pieces += 1
        return piece

    def _begun(self, piece: ToolCallDelta) -> ToolCallDelta:
        for field, value in (("name", piece.name), ("id", piece.id)):
            if not isinstance(value, str | None):
                raise ProtocolViolation(f"a tool_call whose {field} is {type(value).__name__} and not a string")
            if value is not None and len(value) > MAX_NAME:
                raise ProtocolViolation(f"a tool_call whose {field} has {len(value)} characters, of {MAX_NAME}")
        if not piece.name:
            raise ProtocolViolation(f"tool call {piece.call} begins without its name")
        if self.count == MAX_PARTS:
            raise ProtocolViolation(f"more than {MAX_PARTS} tool calls in one answer")
        self.count += 1
        self._name, self._id = piece.name, piece.id or None
        if self._id is None or self._id in self._ids:
            piece = msgspec.structs.replace(piece, id=f"call_{uuid.uuid4().hex[:24]}")
        assert piece.id is not None
        self._ids.add(piece.id)
        return piece

    def _continued(self, piece: ToolCallDelta) -> ToolCallDelta:
        if piece.name is None and piece.id is None:
            return piece
        # Some engines say them in each piece, or an empty one; a reader that joins the pieces must not have them twice.
        said: tuple[tuple[str, Any, str | None], ...] = (("name", piece.name, self._name), ("id", piece.id, self._id))
        for field, value, first in said:
            if value not in (None, "", first):
                raise ProtocolViolation(f"a later piece of tool call {piece.call} has another {field}")
        return msgspec.structs.replace(piece, id=None, name=None)


def find_violation(events: Iterable[TokenEvent]) -> str | None:
    """Return what is unlawful about a whole stream, with the position of the event at fault; `None` when nothing is."""
    grammar = StreamGrammar()
    for position, event in enumerate(events):
        try:
            grammar.admit(event)
        except ProtocolViolation as exc:
            return f"event {position}: {exc.message}"
    return None if grammar.ended else "the stream has no end and no error"


def _never_started(event: Metrics | TokenIds | PromptLogprobs | End) -> bool:
    return isinstance(event, End) and event.finish_reason == "cancelled"
