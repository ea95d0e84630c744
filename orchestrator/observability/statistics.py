"""What each model has done, in the shape of Triton's statistics extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md). Times are those of
the host: what it cannot see of the engine is nothing here."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection
from time import perf_counter
from typing import Any

import msgspec

from adapter_api import End
from orchestrator.pools.ticket import Ticket

_MOST = 4096
"""Models and versions that are counted: an engine that does not list its models may be asked for any name."""


class Duration(msgspec.Struct):
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        if seconds > 0:
            self.ns += int(seconds * 1e9 + 0.5)


class InferenceStatistics(msgspec.Struct):
    """`success` and `fail` take from arrival to the end; `queue` is the host's line, and `compute_infer` everything
    after it. The engine's own steps, and its cache, are not seen from here."""

    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    queue: Duration = msgspec.field(default_factory=Duration)
    compute_input: Duration = msgspec.field(default_factory=Duration)
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)
    cache_hit: Duration = msgspec.field(default_factory=Duration)
    cache_miss: Duration = msgspec.field(default_factory=Duration)


class BatchStatistics(msgspec.Struct):
    """The requests of one batch size."""

    batch_size: int
    compute_input: Duration = msgspec.field(default_factory=Duration)
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)


class ModelStatistics(msgspec.Struct, kw_only=True):
    """One version of a model since the host was started.

    `inference_count` counts rows of batches, `execution_count` requests that an engine answered: which of them it ran
    together it does not tell.
    """

    name: str
    version: str
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: InferenceStatistics = msgspec.field(default_factory=InferenceStatistics)
    response_stats: dict[str, Any] = {}
    batch_stats: list[BatchStatistics] = []
    memory_usage: list[Any] = []

    def count(self, ticket: Ticket, rows: int) -> None:
        """Count a piece of work that has ended."""
        now = perf_counter()
        stats, end = self.inference_stats, ticket.terminal
        if not isinstance(end, End) or end.finish_reason == "cancelled":
            stats.fail.add(now - ticket.arrived)
            return
        ran_s = now - (ticket.granted_at or now)
        self.last_inference = time.time_ns() // 1_000_000
        self.inference_count += rows
        self.execution_count += 1
        stats.success.add(now - ticket.arrived)
        stats.queue.add(ticket.waited_s)
        batch = None
        for each in self.batch_stats:
            if each.batch_size == rows:
                batch = each
                break
        if batch is None and len(self.batch_stats) < _MOST:
            batch = BatchStatistics(rows)
            self.batch_stats.append(batch)
        for counted in (stats, batch):
            if counted is not None:
                counted.compute_input.count += 1
                counted.compute_infer.add(ran_s)
                counted.compute_output.count += 1


class Statistics:
    """Counts what ends, by model and version."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[str, str], ModelStatistics] = OrderedDict()

    def ended(self, ticket: Ticket) -> None:
        key = (ticket.work.model, ticket.version or ticket.work.model_version or "")
        found = self._models.get(key)
        if found is None:
            found = self._models[key] = ModelStatistics(name=key[0], version=key[1])
            if len(self._models) > _MOST:
                self._models.popitem(last=False)
        found.count(ticket, ticket.rows)

    def of(self, model: str, versions: Collection[str], version: str | None = None) -> list[ModelStatistics]:
        """Return the figures of a model's versions: those there are, and those that have done something.

        What failed before anything told which version ran it counts for the only one, if there is only one.
        """
        shown = {each: self._models.get((model, each)) for each in versions}
        for (name, ran), found in self._models.items():
            if name == model and (ran or len(versions) != 1):
                shown[ran] = found
        nameless = self._models.get((model, "")) if len(versions) == 1 else None
        listed = [found or ModelStatistics(name=model, version=each) for each, found in shown.items()]
        if nameless is not None and len(listed) == 1:
            listed = [_sum(listed[0], nameless)]
        return [each for each in listed if version is None or each.version == version]


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    """Return the figures of both, under the name of the first; nothing of either is changed."""
    total: ModelStatistics = msgspec.convert(msgspec.to_builtins(one), ModelStatistics)
    for name in InferenceStatistics.__struct_fields__:
        into: Duration = getattr(total.inference_stats, name)
        more: Duration = getattr(other.inference_stats, name)
        into.count, into.ns = into.count + more.count, into.ns + more.ns
    total.inference_count += other.inference_count
    total.execution_count += other.execution_count
    total.last_inference = max(total.last_inference, other.last_inference)
    return total
