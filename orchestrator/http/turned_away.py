"""Requests that the host itself turns away, before they are work: counted, and told in the log, no more often than
somebody wants to read it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from starlette.requests import HTTPConnection

from orchestrator.http.pending import HostIsFull
from orchestrator.http.problems import Refused, error_of
from orchestrator.observability.metrics import OrchestratorMetrics

_log = logging.getLogger("orchestrator.http.turned_away")

CODES = frozenset({
    "api_key_missing", "api_key_unknown", "forbidden", "misdirected",
    "headers_too_many", "body_too_large", "request_timeout", "overloaded",
})  # fmt: skip
"""Why somebody is turned away: they may not come in, or a bound of the host's is reached. Whoever has had their share
of requests is told of elsewhere, as are tasks for which a pool has no room."""
EVERY_S = 60.0
"""Between two records of one code: after a change of keys every request is one."""
_LONGEST_PATH = 200


class TurnedAway:
    """Tells of the first request of each code at once, and then how many there were since, as the next one comes."""

    def __init__(self, metrics: OrchestratorMetrics, clock: Callable[[], float] = monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._untold = dict.fromkeys(CODES, 0)
        self._next_at = dict.fromkeys(CODES, 0.0)

    def tell(self, refused: Refused | HostIsFull, connection: HTTPConnection, owner: str | None = None) -> None:
        """Take in that a request, of the key named `owner` where it has one, was refused. Other codes are passed over.
        It may not even have come whole.

        The record has what a search for the client begins with: its address, what it asked for, and of a key that
        nobody knows the beginning of its digest, beside which the settings' own can be laid.
        """
        error = error_of(refused)
        code = error.code
        if code not in CODES:
            return
        self._metrics.request_refused(code)
        self._untold[code] += 1
        now = self._clock()
        if now < self._next_at[code]:
            return
        count, self._untold[code], self._next_at[code] = self._untold[code], 0, now + EVERY_S
        method = connection.scope.get("method", "an unfinished request")[:32]
        path = connection.scope.get("path", "")[:_LONGEST_PATH]
        peer = connection.client.host if connection.client is not None else "an unknown address"
        _log.warning(
            "%d request%s refused (%s), the last one%s from %s for %s: %s", count,
            " was" if count == 1 else "s were", code, f" of {owner}" if owner else "", peer, f"{method} {path}".strip(),
            getattr(refused, "untold", None) or error.message,
            extra={"code": code, "requests": count, "owner": owner},
        )  # fmt: skip
