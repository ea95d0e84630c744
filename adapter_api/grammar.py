"""The law of a task's stream, as a state machine without I/O.

    stream := started (token | metrics)* (end | error)
            | error             the engine never accepted the task
            | end(cancelled)    the task was cancelled before it started

Token indices count 0, 1, 2, … and nothing follows `end` or `error`.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapter_api.errors import ProtocolViolation
from adapter_api.events import End, Error, Metrics, Started, Token, TokenEvent


class StreamGrammar:
    """Admits the events of one stream in order, or says which rule the next one breaks."""

    __slots__ = ("ended", "next_index", "running", "started")

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.running = False
        """Whether tokens may come: started, and not ended."""
        self.next_index = 0

    def admit(self, event: TokenEvent) -> None:
        """Take the next event; raises `ProtocolViolation` naming the rule it breaks, and stays as it was."""
        self._admit(event)
        self.running = self.started and not self.ended

    def end(self) -> None:
        """Admit nothing more."""
        self.ended, self.running = True, False

    def _admit(self, event: TokenEvent) -> None:
        if self.ended:
            raise ProtocolViolation(f"{_name(event)} after the end of the stream")
        if isinstance(event, Token):
            self._admit_token(event)
        elif isinstance(event, Started):
            if self.started:
                raise ProtocolViolation("a second started")
            self.started = True
        elif isinstance(event, Error):
            self.ended = True
        elif isinstance(event, Metrics | End):
            if not self.started and not _never_started(event):
                raise ProtocolViolation(f"{_name(event)} before started")
            self.ended = isinstance(event, End)
        else:
            raise ProtocolViolation(f"{type(event).__name__} is not a TokenEvent")

    def _admit_token(self, event: Token) -> None:
        if not self.started:
            raise ProtocolViolation("token before started")
        if event.index != self.next_index:
            raise ProtocolViolation(f"token index {event.index} where {self.next_index} was due")
        self.next_index += 1


def find_violation(events: Iterable[TokenEvent]) -> str | None:
    """Return what is unlawful about a whole stream, with the position of the event at fault; `None` when nothing is."""
    grammar = StreamGrammar()
    for position, event in enumerate(events):
        try:
            grammar.admit(event)
        except ProtocolViolation as exc:
            return f"event {position}: {exc.message}"
    return None if grammar.ended else "the stream has no end and no error"


def _never_started(event: Metrics | End) -> bool:
    return isinstance(event, End) and event.finish_reason == "cancelled"


def _name(event: object) -> str:
    return type(event).__name__.lower()
