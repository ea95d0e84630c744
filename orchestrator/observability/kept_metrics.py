"""Counters and histograms that cost a task next to nothing: numbers by the values of their labels, without a lock or a
child of the client library's, and made into its samples when somebody looks. Written from one thread; read from any."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Counters(Collector):
    """A counter for each set of labels, in the order of `labels`."""

    def __init__(self, registry: CollectorRegistry, name: str, summary: str, labels: Sequence[str]) -> None:
        self._name = name
        self._summary = summary
        self._labels = tuple(labels)
        self._counts: dict[Labels, float] = {}
        self._created: dict[Labels, float] = {}
        registry.register(self)

    def add(self, labels: Labels, more: float = 1) -> None:
        counts = self._counts
        if labels in counts:
            counts[labels] += more
        else:
            self._created[labels] = time.time()
            counts[labels] = more

    def describe(self) -> Iterable[Metric]:
        return [Metric(self._name, self._summary, "counter")]

    def collect(self) -> Iterable[Metric]:
        metric = Metric(self._name, self._summary, "counter")
        for values, count in list(self._counts.items()):
            labels = dict(zip(self._labels, values, strict=True))
            metric.add_sample(f"{self._name}_total", labels, float(count))
            metric.add_sample(f"{self._name}_created", labels, self._created[values])
        return [metric]


class _Seen:
    __slots__ = ("created", "places", "total")

    def __init__(self, places: int) -> None:
        self.places = [0] * places
        self.total = 0.0
        self.created = time.time()


class Histograms(Collector):
    """A histogram for each set of labels, in the order of `labels`; `bounds` rise."""

    def __init__(
        self, registry: CollectorRegistry, name: str, summary: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._summary = summary
        self._labels = tuple(labels)
        self._bounds = tuple(map(float, bounds))
        self._told = (*map(floatToGoString, self._bounds), "+Inf")
        self._seen: dict[Labels, _Seen] = {}
        registry.register(self)

    def observe(self, labels: Labels, value: float) -> None:
        seen = self._seen.get(labels)
        if seen is None:
            seen = self._seen[labels] = _Seen(len(self._told))
        seen.places[bisect_left(self._bounds, value)] += 1
        seen.total += value

    def describe(self) -> Iterable[Metric]:
        return [Metric(self._name, self._summary, "histogram")]

    def collect(self) -> Iterable[Metric]:
        metric = Metric(self._name, self._summary, "histogram")
        for values, seen in list(self._seen.items()):
            labels = dict(zip(self._labels, values, strict=True))
            up_to = list(accumulate(seen.places))
            for bound, count in zip(self._told, up_to, strict=True):
                metric.add_sample(f"{self._name}_bucket", {**labels, "le": bound}, float(count))
            metric.add_sample(f"{self._name}_count", labels, float(up_to[-1]))
            metric.add_sample(f"{self._name}_sum", labels, seen.total)
            metric.add_sample(f"{self._name}_created", labels, seen.created)
        return [metric]
