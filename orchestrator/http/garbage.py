"""Connections that bring no HTTP: told in the log, and no more often than somebody wants to read it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

_log = logging.getLogger("orchestrator.http.garbage")

EVERY_S = 60.0
"""Between two records."""
_UVICORNS = frozenset({"Invalid HTTP request received.", "Exceeded concurrency limit."})


class Garbage:
    """Tells of the first one at once, and then how many there were since, as the next one comes."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._untold = 0
        self._next_at = 0.0

    def came_from(self, peer: object) -> None:
        """Take in that a connection from `peer` brought bytes that are no request."""
        self._untold += 1
        now = self._clock()
        if now < self._next_at:
            return
        count, self._untold, self._next_at = self._untold, 0, now + EVERY_S
        _log.warning(
            "%d connection%s brought bytes that are no HTTP/1.1 request, the last one from %s: a client that wants TLS "
            "or HTTP/2, or somebody who tries ports", count, "" if count == 1 else "s", peer,
            extra={"connections": count},
        )  # fmt: skip


def leave_to_us(record: logging.LogRecord) -> bool:
    """A filter for uvicorn's log, which has a record for each such connection, and for each that is one too many."""
    return record.msg not in _UVICORNS
