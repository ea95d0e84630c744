"""The show in a terminal: every task's text grows in place, with its speed and time to first token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.spinner import Spinner
from rich.status import Status
from rich.table import Table
from rich.text import Text

from adapter_api import End, TokenEvent
from worker_adapter.demo.board import Board, Lane
from worker_adapter.terminal import one_line, without_controls

_FRAMES_PER_S = 15
_COLOURS = ("cyan", "magenta", "green", "yellow", "bright_blue", "bright_red")
_BAR = 12
# Columns from which the bar and the token count fit.
_WIDE = 100
_MOST_TEXT_LINES = 3
# Heading, total and a line that the terminal keeps for the prompt.
_OTHER_LINES = 4


class LiveView:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._spinner = Spinner("dots")
        self._status: Status | None = None

    def step(self, title: str) -> None:
        self._end_progress()
        self._console.print()
        self._console.print(Rule(Text(title, "bold"), align="left", style="dim"))

    def progress(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(Text(one_line(text)))

    def _end_progress(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def tell(self, text: str) -> None:
        self._end_progress()
        self._console.print(Text(one_line(text)))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for heading in headings:
            table.add_column(heading)
        for row in rows:
            table.add_row(*(Text(one_line(cell)) for cell in row))
        self._console.print(table)

    def document(self, kind: str, fields: dict[str, Any]) -> None:
        pass

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        with Live(
            get_renderable=lambda: self._render(board),
            console=self._console,
            refresh_per_second=_FRAMES_PER_S,
            vertical_overflow="crop",
        ):
            yield

    def events(self, lane: Lane, events: Sequence[TokenEvent]) -> None:
        pass

    def cancelled(self, lane: Lane) -> None:
        pass

    def close(self) -> None:
        self._end_progress()

    def _render(self, board: Board) -> Group:
        room = self._console.height - _OTHER_LINES
        lines = min(_MOST_TEXT_LINES, max(1, room // max(1, len(board.lanes)) - 1))
        parts: list[Any] = []
        for lane, colour in zip(board.lanes, cycle(_COLOURS), strict=False):
            parts += [self._head(lane, colour), _tail(lane, self._console.width, lines)]
        total = f"{board.running} running · {board.tokens} tokens · {board.tokens_per_s:.0f} tok/s together"
        return Group(*parts, Text(total, "bold"))

    def _head(self, lane: Lane, colour: str) -> Table:
        rate, first = lane.tokens_per_s, lane.first_token_ms
        cells: list[tuple[int, Any]] = [
            (1, self._mark(lane)),
            (10, Text(lane.act.name, f"bold {colour}")),
            (10, Text(one_line(f"{lane.act.task.model}{_place(lane)}"), "dim")),
            (10, f"{rate or 0:>4.0f} tok/s"),
            (12, "" if first is None else f"TTFT {first:.0f} ms"),
            (23, _outcome(lane)),
        ]
        if self._console.width >= _WIDE:
            cells.insert(3, (_BAR, _bar(lane, colour)))
            cells.insert(4, (11, f"{lane.tokens:>4} tokens"))
        grid = Table.grid(padding=(0, 1))
        for width, _ in cells:
            grid.add_column(width=width, no_wrap=True, overflow="ellipsis")
        grid.add_row(*(cell for _, cell in cells))
        return grid

    def _mark(self, lane: Lane) -> Any:
        if lane.terminal is None:
            return self._spinner
        if not isinstance(lane.terminal, End):
            return Text("✗", "bold red")
        return Text("■", "bold yellow") if lane.outcome == "cancelled" else Text("✓", "bold green")


def _place(lane: Lane) -> str:
    return f"@{lane.started.replica_id}" if lane.started and lane.started.replica_id else ""


def _bar(lane: Lane, colour: str) -> Text:
    goal = lane.act.task.max_tokens or 1
    done = min(_BAR, round(_BAR * lane.tokens / goal))
    return Text.assemble(("━" * done, colour), ("━" * (_BAR - done), "grey23"))


def _outcome(lane: Lane) -> Text:
    if lane.receipt is not None:
        return Text(f"cancelled in {lane.receipt.after_ms:.1f} ms", "yellow")
    colour = "dim" if lane.terminal is None else "green" if isinstance(lane.terminal, End) else "red"
    return Text(lane.outcome, colour)


def _tail(lane: Lane, width: int, lines: int) -> Text:
    """The last `lines` lines of the text, as it would be wrapped."""
    indent = "  "
    flat = " ".join(without_controls(lane.act.task.prompt or "").split()) + " ".join(
        ["", *without_controls(lane.text).split()]
    )
    rows, row = [], ""
    for word in flat.split():
        if row and len(row) + 1 + len(word) > width - len(indent) - 1:
            rows.append(row)
            row = word[: width - len(indent) - 1]
        else:
            row = f"{row} {word}" if row else word
    shown = [*rows, row][-lines:]
    shown += [""] * (lines - len(shown))
    return Text("\n".join(indent + row for row in shown), "default" if lane.terminal is None else "dim", no_wrap=True)
