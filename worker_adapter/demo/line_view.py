"""The show in a pipe or a file: plain lines, written as things happen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adapter_api import Error, Started, TokenEvent
from worker_adapter.demo.board import Board, Lane
from worker_adapter.event_output import summary
from worker_adapter.submission import describe_receipt
from worker_adapter.terminal import one_line, print_table

_LINE = 72


class LineView:
    def __init__(self) -> None:
        self._unwritten: dict[str, str] = {}

    def step(self, title: str) -> None:
        print()
        self._print(f"== {title}")

    def progress(self, text: str) -> None:
        self._print(text)

    def tell(self, text: str) -> None:
        self._print(text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        print_table(headings, rows)
        sys.stdout.flush()

    def document(self, kind: str, fields: dict[str, Any]) -> None:
        pass

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        yield

    def events(self, lane: Lane, events: Sequence[TokenEvent]) -> None:
        for event in events:
            if isinstance(event, Started):
                self._say(lane, f"started: {lane.act.task.model} on {event.pool_id}/{event.replica_id}")
        new = "".join(event.text for event in events if hasattr(event, "text"))
        self._write(lane, new.replace("\n", " "), rest=lane.terminal is not None)
        if isinstance(lane.terminal, Error):
            self._say(lane, f"error[{lane.terminal.code}]: {lane.terminal.message}")
        elif lane.terminal is not None:
            self._say(lane, summary(lane.terminal, lane.tokens))

    def cancelled(self, lane: Lane) -> None:
        assert lane.receipt is not None
        self._say(lane, describe_receipt(lane.receipt))

    def close(self) -> None:
        pass

    def _write(self, lane: Lane, text: str, *, rest: bool) -> None:
        """Write the lane's text in whole lines, cut between words."""
        waiting = self._unwritten.get(lane.act.name, "") + text
        while len(waiting) > _LINE:
            cut = waiting.rfind(" ", 1, _LINE) if " " in waiting[1:_LINE] else _LINE
            self._say(lane, f"| {waiting[:cut].strip()}")
            waiting = waiting[cut:]
        if rest and waiting.strip():
            self._say(lane, f"| {waiting.strip()}")
            waiting = ""
        self._unwritten[lane.act.name] = waiting

    def _say(self, lane: Lane, text: str) -> None:
        self._print(f"{lane.act.name:>10} {text}")

    def _print(self, text: str) -> None:
        print(one_line(text), flush=True)
