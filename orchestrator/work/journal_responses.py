"""Responses in the journal's file: those that are kept in memory, and what was said before them, so that a host that is
started anew has them again."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from time import time
from typing import Any, cast

import msgspec
from pydantic import TypeAdapter, ValidationError

from adapter_api import Message
from orchestrator.sessions.responses import KeptResponse, Status
from orchestrator.work.journal import Journal

_log = logging.getLogger("orchestrator.work.journal")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    name TEXT PRIMARY KEY, before TEXT, kept INTEGER NOT NULL, expires REAL NOT NULL, response BLOB NOT NULL
) WITHOUT ROWID
"""
_MESSAGES = TypeAdapter(tuple[Message, ...])
_TOUCH_AFTER_S = 60.0
"""How much later a response has to expire for that to be written: it is read more often than anybody restarts."""


class ResponseFile:
    """What `Responses` writes to, and reads once. Writes are put in the journal's line and not waited for: a full or
    broken disk is the journal's to tell."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._written: dict[str, float] = {}
        """When those that are in the file expire there."""

    def save(self, response: KeptResponse, left_s: float) -> None:
        """Write a response that has ended, and will be kept for so long."""
        name, expires = _name(response), time() + left_s
        before = None if response.before is None else _name(response.before)
        self._written[name] = expires

        def save(connection: sqlite3.Connection) -> None:
            row = (name, before, 1, expires, _encoded(response))
            connection.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)", row)

        self._put(save)

    def prolong(self, response: KeptResponse, left_s: float) -> None:
        """Write that it is kept longer."""
        name, expires = _name(response), time() + left_s
        if expires - self._written.get(name, expires) >= _TOUCH_AFTER_S:
            self._written[name] = expires
            self._put(lambda file: file.execute("UPDATE responses SET expires = ? WHERE name = ?", (expires, name)))

    def hide(self, response: KeptResponse) -> None:
        """Write that it is there only for those that go on from it."""
        name = _name(response)
        self._put(lambda file: file.execute("UPDATE responses SET kept = 0 WHERE name = ?", (name,)))

    def delete(self, response: KeptResponse) -> None:
        name = _name(response)
        if self._written.pop(name, None) is not None:
            self._put(lambda file: file.execute("DELETE FROM responses WHERE name = ?", (name,)), deletes=True)

    async def load(self) -> list[tuple[KeptResponse, bool, float]]:
        """Return what the file has: each response after the one before it, whether it is kept for itself, and for how
        many seconds more."""
        found = await self._journal.read_with(_load) or []
        now = time()
        self._written = {_name(response): now + left_s for response, _, left_s in found}
        return found

    def _put(self, step: Any, *, deletes: bool = False) -> None:
        def with_table(connection: sqlite3.Connection) -> None:
            connection.execute(_SCHEMA)
            step(connection)

        self._journal.put(with_table, deletes=deletes)


def _name(response: KeptResponse) -> str:
    return json.dumps([response.owner, response.id, response.key])


def _encoded(response: KeptResponse) -> bytes:
    answered = () if response.answered is None else (response.answered,)
    return msgspec.json.encode({
        "status": response.status,
        "asked": msgspec.Raw(_MESSAGES.dump_json(response.asked)),
        "answered": msgspec.Raw(_MESSAGES.dump_json(answered)),
        "body": response.body,
        "items": response.items,
    })  # fmt: skip


def _load(connection: sqlite3.Connection) -> list[tuple[KeptResponse, bool, float]]:
    connection.execute(_SCHEMA)
    rows = {row[0]: row for row in connection.execute("SELECT name, before, kept, expires, response FROM responses")}
    made: dict[str, KeptResponse | None] = {}
    now = time()
    found: list[tuple[KeptResponse, bool, float]] = []
    for name in sorted(rows, key=lambda each: float(rows[each][3])):
        for each in reversed(list(_unmade(name, rows, made))):
            _, before, kept, expires, blob = rows[each]
            # Of a conversation whose beginning is gone nobody goes on as if there was none.
            whole = before is None or made.get(before) is not None
            made[each] = response = _decoded(each, blob, made[before] if before else None) if whole else None
            if response is not None:
                found.append((response, bool(kept), float(expires) - now))
    lost = [(name,) for name, response in made.items() if response is None]
    connection.executemany("DELETE FROM responses WHERE name = ?", lost)
    return found


def _unmade(name: str | None, rows: dict[str, Any], made: dict[str, KeptResponse | None]) -> Iterator[str]:
    """Yield a response and those before it that are not made yet."""
    seen: set[str] = set()
    while name is not None and name in rows and name not in made and name not in seen:
        seen.add(name)
        yield name
        name = rows[name][1]


def _decoded(name: str, blob: bytes, before: KeptResponse | None) -> KeptResponse | None:
    try:
        owner, id, key = json.loads(name)
        told = msgspec.json.decode(blob, type=_Row)
        response = KeptResponse(owner, id, _MESSAGES.validate_json(bytes(told.asked)), before)
        answered = _MESSAGES.validate_json(bytes(told.answered))
    except (msgspec.MsgspecError, ValidationError, ValueError):
        _log.warning("what the journal has of a response is damaged: it is forgotten")
        return None
    response.key = key
    response.status, response.body, response.items = cast(Status, told.status), told.body, told.items
    response.answered = answered[0] if answered else None
    response.ended.set()
    return response


class _Row(msgspec.Struct):
    status: str
    asked: msgspec.Raw
    answered: msgspec.Raw
    body: dict[str, Any]
    items: Sequence[dict[str, Any]]
