"""The show for programs: one JSON object per line, each with a `type`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from adapter_api import TokenEvent
from worker_adapter.demo.board import Board, Lane
from worker_adapter.reporting import write_json


class JsonView:
    def step(self, title: str) -> None:
        pass

    def progress(self, text: str) -> None:
        pass

    def tell(self, text: str) -> None:
        pass

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        pass

    def document(self, kind: str, fields: dict[str, Any]) -> None:
        write_json(msgspec.json.encode({"type": kind, **msgspec.to_builtins(fields, order="deterministic")}))

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        yield

    def events(self, lane: Lane, events: Sequence[TokenEvent]) -> None:
        for event in events:
            self.document("event", {"job_id": lane.act.task.job_id, "event": event})

    def cancelled(self, lane: Lane) -> None:
        self.document("receipt", {"job_id": lane.act.task.job_id, "receipt": lane.receipt})

    def close(self) -> None:
        pass
