"""The file of a journal: how it is made, whether it is still there, and what to do when it cannot be used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from adapter_api import ConfigurationError

_APPLICATION_ID = 0x774A726E  # "wJrn", so that no other database is taken for a journal
_VERSION = 1
_SCHEMA = """
CREATE TABLE tasks (
    job_id TEXT PRIMARY KEY, owner TEXT, status BLOB NOT NULL, ended_at REAL
) WITHOUT ROWID;
CREATE TABLE batches (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    events BLOB NOT NULL
);
CREATE INDEX batches_of ON batches (job_id, first);
CREATE INDEX tasks_by_end ON tasks (ended_at);
"""


class FileGone(sqlite3.OperationalError):
    """What is written to the file from now on, nobody finds again."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a journal of an empty file; raises `ConfigurationError` when it is something else."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # Deleted answers must not lie about in free pages.
    connection.execute("PRAGMA secure_delete = ON")
    found = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and found != (_APPLICATION_ID, _VERSION):
        raise ConfigurationError(
            f"retention.file {str(path)!r} is a database of something else, or of another version: "
            "name another file, or move it away"
        )
    if empty:  # of no use later, and a write that a full disk refuses
        connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 4194304")
    if empty:
        connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION}; COMMIT;"
        )


def identity(path: Path) -> tuple[int, ...]:
    """Return what tells the file and its write-ahead log from others that are put in their place."""
    files = [path.stat(), Path(f"{path}-wal").stat()]
    return tuple(number for found in files for number in (found.st_dev, found.st_ino))


def why_unusable(path: Path, exc: sqlite3.Error) -> str:
    """Return what keeps a host from starting with this file, and what to do."""
    name = f"retention.file {str(path)!r}"
    if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return f"{name} is in use by another host: give each host a file of its own"
    if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return f"{name} cannot be made ({reason(exc)}): make room on its disk, or name a file on another one"
    return f"{name} cannot be used ({reason(exc)}): name another file, or move it away"


def reason(exc: Exception) -> str:
    """Return what went wrong, without the numbers of the system."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def advice(failure: sqlite3.Error) -> str:
    """Return what to do about a transaction that could not be written."""
    code = (getattr(failure, "sqlite_errorcode", None) or 0) & 0xFF
    if isinstance(failure, FileGone):
        return "restart the host to begin a new one"
    if code == sqlite3.SQLITE_FULL:
        return "make room on its disk"
    return "look after its disk and the rights of its file and folder, then restart the host if this does not end"
