"""A task's events on standard output: as they are, for programs, or as text, for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from adapter_api import End, Error, Started, Timings, Token, TokenEvent, encode_event
from worker_adapter.reporting import print_error, write_json
from worker_adapter.terminal import note, without_controls


class EventOutput(Protocol):
    """Takes the events of one task; raises `BrokenPipeError` when nobody reads them any more."""

    def write(self, events: Sequence[TokenEvent]) -> None: ...


class JsonOutput:
    """One event per line in its JSON form, each written at once."""

    def write(self, events: Sequence[TokenEvent]) -> None:
        for event in events:
            write_json(encode_event(event))


class TextOutput:
    """The text as it arrives; figures and errors go to standard error."""

    def __init__(self) -> None:
        self._to_terminal = sys.stdout.isatty()
        self._started: Started | None = None
        self._tokens = 0
        self._open_line = False

    def write(self, events: Sequence[TokenEvent]) -> None:
        self._write_text("".join(event.text for event in events if isinstance(event, Token)))
        for event in events:
            if isinstance(event, Started):
                self._started = event
            elif isinstance(event, Token):
                self._tokens += 1
            elif isinstance(event, End | Error):
                self._finish(event)

    def _write_text(self, text: str) -> None:
        if text:
            sys.stdout.write(without_controls(text) if self._to_terminal else text)
            sys.stdout.flush()
            self._open_line = not text.endswith("\n")

    def _finish(self, event: End | Error) -> None:
        if self._open_line:
            self._write_text("\n")
        if isinstance(event, Error):
            print_error(event)
        else:
            note(summary(event, self._tokens, model=self._started.model if self._started else None))


def summary(end: End, token_events: int, *, model: str | None = None) -> str:
    """Return a line of what a task came to."""
    tokens = end.usage.tokens_out if end.usage.tokens_out is not None else token_events
    parts = [] if model is None else [model]
    parts.append(f"{tokens} token{'' if tokens == 1 else 's'}")
    timings = end.timings
    if timings is not None:
        rate = _rate(tokens, token_events, timings)
        if rate is not None:
            parts.append(rate)
        if timings.time_to_first_token_ms is not None:
            parts.append(f"first token {timings.time_to_first_token_ms:.0f} ms")
        parts.append(f"{timings.total_ms / 1e3:.2f} s")
    parts.append(f"finish: {end.finish_reason}")
    return " · ".join(parts)


def _rate(tokens: int, token_events: int, timings: Timings) -> str | None:
    """Return how fast the tokens came: from the first one on, if each came by itself.

    Else nobody knows how many the first event held, for which no time is told, and they count over the whole task.
    """
    if tokens < 2:
        return None
    if tokens <= token_events:
        return f"{(tokens - 1) / timings.decode_time_ms * 1e3:.1f} tok/s" if timings.decode_time_ms else None
    return f"{tokens / timings.total_ms * 1e3:.1f} tok/s in all" if timings.total_ms else None
