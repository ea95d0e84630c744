"""What a client has done so far: counts, failures by code, how long answers took."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

import msgspec

_REMEMBERED = 1024
"""Latencies that percentiles are of: the last ones."""


class ClientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the client was made. Percentiles are of the last 1,024 that succeeded; `None` before the first.

    Each request ends once, as succeeded, failed or cancelled; those that run yet are what is left of `requests`.
    """

    requests: int
    succeeded: int
    failed: int
    cancelled: int
    """Left by whoever asked, as by a time-out of their own or Ctrl-C."""
    retries: int
    failures: Mapping[str, int]
    """How many failed with which code."""
    latency_p50_s: float | None
    latency_p95_s: float | None
    latency_p99_s: float | None

    @property
    def success_rate(self) -> float | None:
        """Succeeded of those that succeeded or failed, 0 to 1; `None` before the first."""
        ended = self.succeeded + self.failed
        return self.succeeded / ended if ended else None


class StatisticsKeeper:
    """Counts for `ClientStatistics`; what it keeps is bounded."""

    def __init__(self) -> None:
        self._succeeded = 0
        self._failures: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.requests = 0
        self.cancelled = 0
        self.retries = 0

    def note_success(self, seconds: float) -> None:
        self._succeeded += 1
        self._latencies.append(seconds)

    def note_failure(self, code: str) -> None:
        self._failures[code] += 1

    def read(self) -> ClientStatistics:
        ordered = sorted(self._latencies)
        return ClientStatistics(
            requests=self.requests, succeeded=self._succeeded, failed=self._failures.total(),
            cancelled=self.cancelled, retries=self.retries,
            failures=dict(self._failures), latency_p50_s=_percentile(ordered, 0.50),
            latency_p95_s=_percentile(ordered, 0.95), latency_p99_s=_percentile(ordered, 0.99),
        )  # fmt: skip


def _percentile(ordered: list[float], share: float) -> float | None:
    """Return the nearest-rank percentile."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
