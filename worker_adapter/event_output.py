"""A task's events on standard output: as they are, for programs, or as text, for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol, TextIO, cast

from adapter_api import (
    End,
    Error,
    Output,
    Reasoning,
    Started,
    Timings,
    Token,
    TokenEvent,
    ToolCallDelta,
    encode_event,
)
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
    """The text as it arrives, and each tool call on a line of its own; thoughts, figures and errors go to standard
    error."""

    def __init__(self) -> None:
        self._started: Started | None = None
        self._outputs = 0
        self._told: type[Output] | None = None
        """What was told last."""
        self._open: TextIO | None = None
        """Where a line has begun."""
        self._in_a_call = False

    def write(self, events: Sequence[TokenEvent]) -> None:
        # What is ready together goes out in one write.
        for kind, ready in groupby(events, type):
            run = list(ready)
            if issubclass(kind, Output):
                self._outputs += len(run)
                self._tell(kind, cast("list[Output]", run))
                continue
            for event in run:
                if isinstance(event, Started):
                    self._started = event
                elif isinstance(event, End | Error):
                    self._finish(event)

    def _tell(self, kind: type[Output], run: list[Output]) -> None:
        if self._told is not None and self._told is not kind:
            self._end_line()
        self._told = kind
        if kind is Reasoning:
            self._write("".join(event.text for event in run if isinstance(event, Reasoning)), sys.stderr)
        elif kind is Token:
            self._write("".join(event.text for event in run if isinstance(event, Token)), sys.stdout)
        for event in run:
            if isinstance(event, ToolCallDelta):
                if event.name is not None:
                    self._end_line()
                    self._write(f"{event.name}(", sys.stdout)
                    self._in_a_call = True
                self._write(event.arguments, sys.stdout)

    def _write(self, text: str, stream: TextIO) -> None:
        if text:
            stream.write(without_controls(text) if stream.isatty() else text)
            stream.flush()
            self._open = None if text.endswith("\n") else stream

    def _end_line(self) -> None:
        if self._in_a_call:
            self._in_a_call = False
            self._write(")", sys.stdout)
        if self._open is not None:
            self._write("\n", self._open)

    def _finish(self, event: End | Error) -> None:
        self._end_line()
        if isinstance(event, Error):
            print_error(event)
        else:
            note(summary(event, self._outputs, model=self._started.model if self._started else None))


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
