"""What the journal's transactions do to its tables: tasks and events in, the oldest out, what a dead host left ended.

Every method is a part of somebody's transaction, and only the journal's thread calls them.
"""

from __future__ import annotations

import logging
import sqlite3
from time import time

import msgspec

from adapter_api import Error, encode_event
from orchestrator.pools.status import TaskStatus
from orchestrator.work.journal_rows import Damaged, status_of

_log = logging.getLogger("orchestrator.work.journal")

_TASK_BYTES = 1024
"""What a task is counted as beside its events: its row, its status, its place in the indices."""


class Recovered(msgspec.Struct, frozen=True):
    """What was found when the file was opened."""

    finished: int
    unfinished: int
    """Tasks that ran when the host died; each ends in one `Error`, as soon as the disk takes that."""


class Store:
    """The tables, within their bounds: of `max_bytes`, of `max_age_s` after a task's end, of `events` of one task."""

    def __init__(self, connection: sqlite3.Connection, *, max_bytes: int, max_age_s: float, events: int) -> None:
        self.connection = connection
        self.max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._event_limit = events
        self._unfinished: list[tuple[str, bytes]] = []
        """Tasks that the last host left, for as long as their end cannot be written."""
        self.bytes = 0
        """How much it holds, as of this transaction."""
        self.has_deleted = False
        """Whether something was deleted that may still stand in the write-ahead log."""
        self.recovered = Recovered(0, 0)

    def begin(self, job_id: str, owner: str | None, status: TaskStatus) -> bool:
        """Write down that a task runs; returns false, and writes nothing, when there is one of that `job_id`."""
        row = (job_id, owner, msgspec.json.encode(status))
        made = self.connection.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?, ?, NULL)", row).rowcount == 1
        self.bytes += _TASK_BYTES if made else 0
        return made

    def append(self, job_id: str, first: int, count: int, blob: bytes, *, last: bool) -> None:
        """Write down `count` encoded events, the first of them number `first`, and that they ended the task, if so."""
        self.connection.execute(
            "INSERT INTO batches (job_id, first, count, events) VALUES (?, ?, ?, ?)", (job_id, first, count, blob)
        )
        self.bytes += len(blob)
        if first + count > self._event_limit:
            self._forget_batches(job_id, before=first + count - self._event_limit)
        if last:
            self.connection.execute("UPDATE tasks SET ended_at = ? WHERE job_id = ?", (time(), job_id))

    def end(self, job_id: str, status: TaskStatus) -> None:
        """Write down how a task is known from now on."""
        row = (msgspec.json.encode(status), job_id)
        self.connection.execute("UPDATE tasks SET status = ? WHERE job_id = ?", row)

    def forget_old(self) -> None:
        """Delete what is too old, and the oldest of what is too much."""
        connection = self.connection
        old = connection.execute("SELECT job_id FROM tasks WHERE ended_at < ?", (time() - self.max_age_s,)).fetchall()
        for (job_id,) in old:
            self._forget(job_id)
        while self.bytes > self._max_bytes:
            row = connection.execute(
                "SELECT job_id FROM tasks WHERE ended_at IS NOT NULL ORDER BY ended_at LIMIT 1"
            ).fetchone()
            if row is not None:
                self._forget(row[0])
            elif not self._forget_oldest_batch():
                return

    def _forget(self, job_id: str) -> None:
        size = "SELECT coalesce(sum(length(events)), 0) FROM batches WHERE job_id = ?"
        self.bytes -= _TASK_BYTES + self.connection.execute(size, (job_id,)).fetchone()[0]
        self.has_deleted = True
        self.connection.execute("DELETE FROM batches WHERE job_id = ?", (job_id,))
        self.connection.execute("DELETE FROM tasks WHERE job_id = ?", (job_id,))

    def _forget_batches(self, job_id: str, *, before: int) -> None:
        gone = "FROM batches WHERE job_id = ? AND first + count <= ?"
        size = self.connection.execute(f"SELECT coalesce(sum(length(events)), 0) {gone}", (job_id, before)).fetchone()
        self.has_deleted = True
        self.connection.execute(f"DELETE {gone}", (job_id, before))
        self.bytes -= size[0]

    def _forget_oldest_batch(self) -> bool:
        row = self.connection.execute("SELECT number, length(events) FROM batches ORDER BY number LIMIT 1").fetchone()
        if row is None:
            return False
        self.has_deleted = True
        self.connection.execute("DELETE FROM batches WHERE number = ?", row[:1])
        self.bytes -= row[1]
        return True

    def find_unfinished(self) -> None:
        """Look, as the file is opened, what the last host left."""
        connection = self.connection
        self._unfinished = connection.execute("SELECT job_id, status FROM tasks WHERE ended_at IS NULL").fetchall()
        tasks = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        events = connection.execute("SELECT coalesce(sum(length(events)), 0) FROM batches").fetchone()[0]
        self.bytes = events + tasks * _TASK_BYTES
        self.recovered = Recovered(tasks - len(self._unfinished), len(self._unfinished))

    def recover(self) -> None:
        """End what the last host left unfinished."""
        for job_id, status in self._unfinished:
            try:
                self._end_unfinished(job_id, status)
            except Damaged as exc:
                _log.warning("%s: it is forgotten", exc)
                self._forget(job_id)

    def _end_unfinished(self, job_id: str, status: bytes) -> None:
        connection = self.connection
        last = connection.execute("SELECT max(first + count) FROM batches WHERE job_id = ?", (job_id,)).fetchone()[0]
        error = Error(
            code="stream_incomplete",
            message="the host stopped in the middle of this task, which is lost from here on: send it again",
            retryable=True,
        )
        now = time()
        blob = encode_event(error)
        connection.execute(
            "INSERT INTO batches (job_id, first, count, events) VALUES (?, ?, 1, ?)", (job_id, last or 0, blob)
        )
        self.bytes += len(blob)
        ended = status_of(connection, job_id, status, now)
        connection.execute(
            "UPDATE tasks SET ended_at = ?, status = ? WHERE job_id = ?", (now, msgspec.json.encode(ended), job_id)
        )

    def recovery_is_written(self) -> None:
        """Say that the transaction in which `recover` was called is in the file."""
        self._unfinished = []
