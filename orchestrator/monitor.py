"""Watching replicas: each has one task that opens its adapter, probes it, and closes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from adapter_api import AdapterError, HealthReport, HealthState, WorkerAdapter
from orchestrator.pools import Pool
from orchestrator.replica import Replica
from orchestrator.settings import HealthSettings

_log = logging.getLogger("orchestrator.monitor")

PROPS_EVERY = 15
"""Probes between two looks at what the engine is; a change of its models makes one too."""


class HealthListener(Protocol):
    """Told about every probe."""

    def __call__(self, pool: Pool, replica: Replica, report: HealthReport, changed: bool) -> None: ...


async def watch(pool: Pool, replica: Replica, listener: HealthListener, create: Callable[[], WorkerAdapter]) -> None:
    """Own the replica's adapter until the replica is retired: open it, probe it, open a new one if opening failed.

    The adapter is opened and closed in this one task, as its own task groups may demand.
    """
    while not replica.retired.is_set():
        try:
            async with create() as adapter:
                replica.adapter = adapter
                replica.engine = adapter.engine
                try:
                    await _probe_until_retired(pool, replica, adapter, listener)
                finally:
                    replica.adapter = None
        except AdapterError as exc:
            _observe(pool, replica, _failed_to_open(exc.message), listener)
        except Exception as exc:
            _log.exception("the adapter of replica %s/%s broke while it was opened or closed", pool.id, replica.id)
            _observe(pool, replica, _failed_to_open(f"its adapter broke with {type(exc).__name__}"), listener)
        if not replica.retired.is_set():
            await replica.wait_for_probe_time(pool.settings.health.interval_s)


async def _probe_until_retired(pool: Pool, replica: Replica, adapter: WorkerAdapter, listener: HealthListener) -> None:
    settings: HealthSettings = pool.settings.health
    probes = 0
    while not replica.retired.is_set():
        report = await adapter.health()
        if report.ready and (probes % PROPS_EVERY == 0 or _models(report) != _models(replica.report)):
            await _learn_props(replica, adapter)
            probes = 0
        probes = probes + 1 if replica.props is not None else 0
        _observe(pool, replica, report, listener)
        await replica.wait_for_probe_time(settings.interval_s)


async def _learn_props(replica: Replica, adapter: WorkerAdapter) -> None:
    try:
        replica.props = await adapter.props()
    except AdapterError as exc:
        # It takes work all the same; only what is not known (slots, limits, version) is missing.
        _log.warning("replica %s/%s did not describe itself: %s", replica.pool_id, replica.id, exc.message)


def _observe(pool: Pool, replica: Replica, report: HealthReport, listener: HealthListener) -> None:
    changed = replica.observe(report)
    if changed:
        pool.readiness_changed()
    else:
        pool.serve()  # a breaker's or an overloaded replica's time may be up
    replica.probed.set()
    listener(pool, replica, report, changed)


def _models(report: HealthReport | None) -> set[tuple[str, str | None, bool]]:
    return {(m.name, m.version, m.ready) for m in report.models} if report else set()


def _failed_to_open(detail: str) -> HealthReport:
    return HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False, detail=detail)
