"""What looks on while the show runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from adapter_api import TokenEvent
from worker_adapter.demo.board import Board, Lane


class View(Protocol):
    """Shows what happens. People read `step`, `tell` and `table`; programs read `document`; both see the tasks."""

    def step(self, title: str) -> None:
        """A new part of the show begins."""

    def progress(self, text: str) -> None:
        """How far the part is; the next line replaces this one where it can."""

    def tell(self, text: str) -> None:
        """One line within the part."""

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...

    def document(self, kind: str, fields: dict[str, Any]) -> None:
        """The same facts for a program."""

    def watching(self, board: Board) -> AbstractContextManager[None]:
        """The tasks run while this is entered."""

    def events(self, lane: Lane, events: Sequence[TokenEvent]) -> None:
        """Events of one task have arrived; the lane has them already."""

    def cancelled(self, lane: Lane) -> None:
        """The lane's receipt has arrived."""

    def close(self) -> None:
        """The show is over, at its end or before."""
