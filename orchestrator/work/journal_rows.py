"""What the rows of a journal say of a task."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from adapter_api import End, Error, Metrics, Output, Started, TokenEvent, UnknownEvent, decode_event
from orchestrator.pools.status import TaskStatus


class Kept(msgspec.Struct, frozen=True):
    """A task as the journal has it: its events from number `first` on."""

    owner: str | None
    status: TaskStatus
    first: int
    events: list[TokenEvent]


class Damaged(Exception):
    """What the file has of a task cannot be read."""


def read_task(connection: sqlite3.Connection, job_id: str) -> Kept | None:
    """Return an ended task; `None` when there is none. Raises `Damaged`."""
    row = connection.execute("SELECT owner FROM tasks WHERE job_id = ?", (job_id,)).fetchone()
    status = read_status(connection, job_id)
    if row is None or status is None:
        return None
    first = following = 0
    events: list[TokenEvent] = []
    for start, count, blob in connection.execute(
        "SELECT first, count, events FROM batches WHERE job_id = ? ORDER BY first", (job_id,)
    ):
        if start != following or not events:
            # What lies before a gap cannot be told from what is gone.
            first, events = start, []
        events += _events(job_id, blob)
        following = start + count
    return Kept(row[0], status, first, events)


def read_status(connection: sqlite3.Connection, job_id: str) -> TaskStatus | None:
    """Return how an ended task ended; `None` when there is none. Raises `Damaged`."""
    row = connection.execute(
        "SELECT status, ended_at FROM tasks WHERE job_id = ? AND ended_at IS NOT NULL", (job_id,)
    ).fetchone()
    return None if row is None else status_of(connection, job_id, *row)


def status_of(connection: sqlite3.Connection, job_id: str, written: bytes, ended_at: float) -> TaskStatus:
    """Return the status of a task that ended. Raises `Damaged`.

    Its row is as old as its beginning when the host died before the last one was written: what was shown since is in
    its events.
    """
    try:
        status = msgspec.json.decode(written, type=TaskStatus)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise Damaged(f"what the journal of kept tasks has of job {job_id} is damaged") from exc
    if status.state == "ended":
        return status
    terminal: End | Error | None = None
    tokens = 0
    for event in _backwards(connection, job_id):
        if isinstance(event, End | Error):
            terminal = event
        tokens += isinstance(event, Output)
    if isinstance(terminal, End) and terminal.usage.tokens_out is not None:
        tokens = terminal.usage.tokens_out
    status = msgspec.structs.replace(status, state="ended", ended_at=ended_at, terminal=terminal, tokens_out=tokens)
    started = next((event for event in _first_events(connection, job_id) if isinstance(event, Started)), None)
    if started is None:
        return status
    return msgspec.structs.replace(
        status, pool_id=started.pool_id or status.pool_id, replica_id=started.replica_id,
        attempts=max(status.attempts, 1),
    )  # fmt: skip


def _backwards(connection: sqlite3.Connection, job_id: str) -> Iterator[TokenEvent]:
    rows = connection.execute("SELECT events FROM batches WHERE job_id = ? ORDER BY first DESC", (job_id,))
    for (blob,) in rows:
        yield from reversed(_events(job_id, blob))


def _first_events(connection: sqlite3.Connection, job_id: str) -> list[TokenEvent]:
    row = connection.execute("SELECT events FROM batches WHERE job_id = ? ORDER BY first LIMIT 1", (job_id,)).fetchone()
    return [] if row is None else _events(job_id, row[0])


def _events(job_id: str, blob: bytes) -> list[TokenEvent]:
    try:
        return [_event(line) for line in blob.split(b"\n")]
    except (msgspec.MsgspecError, ValueError) as exc:
        raise Damaged(f"what the journal of kept tasks has of job {job_id} is damaged") from exc


def _event(line: bytes) -> TokenEvent:
    try:
        return decode_event(line)
    except UnknownEvent:  # by a later version; one that says nothing keeps the numbers of those behind it
        return Metrics()
