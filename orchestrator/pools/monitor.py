"""Watching replicas: each has one task that opens its adapter, probes it, and closes it."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import anyio

from adapter_api import AdapterError, HealthReport, HealthState, WorkerAdapter
from orchestrator.pools.replica import Replica

_log = logging.getLogger("orchestrator.pools.monitor")

PROPS_EVERY = 15
"""Probes between two looks at what the engine is; a change of its models makes one too."""


class ProbeListener(Protocol):
    """Told what each probe found, after the replica knows it."""

    def __call__(self, replica: Replica, report: HealthReport, changed: bool) -> None: ...


async def watch(replica: Replica, listener: ProbeListener) -> None:
    """Own the replica's adapter until the replica is retired: open it, probe it, open a new one if opening failed.

    The adapter is opened and closed in this one task, as its own task groups may demand.
    """
    while not replica.retired.is_set():
        try:
            # Left at once when the replica retires, in the middle of opening or of a probe; adapters close shielded.
            with anyio.CancelScope() as replica.watching:
                async with replica.create_adapter() as adapter:
                    replica.adapter = adapter
                    replica.engine = adapter.engine
                    try:
                        await _probe_until_retired(replica, adapter, listener)
                    finally:
                        replica.adapter = None
        except AdapterError as exc:
            _observe(replica, _failed_to_open(exc.message), listener)
        except Exception as exc:
            _log.exception("the adapter of replica %s/%s broke as it was opened or closed", replica.pool_id, replica.id)
            _observe(replica, _failed_to_open(f"its adapter broke with {type(exc).__name__}"), listener)
        if not replica.retired.is_set():
            await replica.wait_for_probe_time()


async def look(replica: Replica, adapter: WorkerAdapter, listener: ProbeListener) -> None:
    """Probe a replica once, beside the one that watches it, and ask anew what it is."""
    report = await _probe(replica, adapter)
    if report.ready:
        await _learn_props(replica, adapter)
    _observe(replica, report, listener)


async def _probe_until_retired(replica: Replica, adapter: WorkerAdapter, listener: ProbeListener) -> None:
    probes = 0
    while not replica.retired.is_set():
        report = await _probe(replica, adapter)
        new = _models(replica.names.health(report)) != _models(replica.report)
        if report.ready and (new or probes % PROPS_EVERY == 0):
            await _learn_props(replica, adapter)
            probes = 0
        if report.ready and replica.trust.wants_question and await _learn_props(replica, adapter):
            # It refused us, and now answers two questions: what is left to find out takes a task.
            replica.trust.answered()
        probes = probes + 1 if replica.props is not None else 0
        _observe(replica, report, listener)
        await replica.wait_for_probe_time()


async def _probe(replica: Replica, adapter: WorkerAdapter) -> HealthReport:
    with anyio.move_on_after(replica.probe_timeout_s):
        return await adapter.health()
    return HealthReport(
        state=HealthState.UNREACHABLE, live=False, ready=False, latency_s=replica.probe_timeout_s,
        checked_at=time.time(), detail=f"no answer to a probe within {replica.probe_timeout_s:g} s",
    )  # fmt: skip


async def _learn_props(replica: Replica, adapter: WorkerAdapter) -> bool:
    """Ask the engine what it is; returns whether it answered."""
    try:
        replica.describe(await adapter.props())
        return True
    except AdapterError as exc:
        # It takes work all the same; only what is not known (slots, limits, version) is missing.
        _log.warning("replica %s/%s did not describe itself: %s", replica.pool_id, replica.id, exc.message)
        return False


def _observe(replica: Replica, report: HealthReport, listener: ProbeListener) -> None:
    changed = replica.observe(report)
    if report.ready and report.models_listed and not replica.probed.is_set():
        for model in replica.names.unknown({model.name for model in report.models}):
            _log.warning(
                "replica %s/%s has no model %r, to which served_as gives a name; `worker-adapter models` lists those "
                "that it has", replica.pool_id, replica.id, model,
            )  # fmt: skip
    replica.probed.set()
    listener(replica, replica.report or report, changed)


def _models(report: HealthReport | None) -> set[tuple[str, str | None, bool]]:
    return {(m.name, m.version, m.ready) for m in report.models} if report else set()


def _failed_to_open(detail: str) -> HealthReport:
    return HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False, detail=detail)
