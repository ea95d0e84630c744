"""The journal of kept tasks, as metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.work.journal import Journal


class JournalMetrics(Collector):
    """Says at each reading whether the journal is written, how often it could not be, and how much it holds."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def describe(self) -> Iterable[Metric]:
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        journal = self._journal
        yield GaugeMetricFamily(
            "worker_adapter_journal_writable", "0 while kept tasks cannot be written to their file", journal.writable
        )
        yield CounterMetricFamily(
            "worker_adapter_journal_failures", "Writes of kept tasks to their file that failed", value=journal.failures
        )
        yield GaugeMetricFamily("worker_adapter_journal_bytes", "Kept tasks in their file, as bytes", journal.size)
