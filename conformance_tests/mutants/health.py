"""ORCH-3057: health, and the properties of an engine."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec

from adapter_api import (
    Capability,
    Capacity,
    ConnectFailed,
    EngineProps,
    HealthReport,
    HealthState,
    Started,
    TaskRequest,
    WorkerAdapter,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Engine, Mode


class _Telling(ReferenceAdapter):
    """Changes the report of the reference adapter."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {}

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        return msgspec.structs.replace(report, **self._changed(report))


@breaks("ORCH-3057-001")
class WaitsForEver(ReferenceAdapter):
    """Waits for an engine that hangs, whatever the limit."""

    async def _health(self, *, canary: bool) -> HealthReport:
        with anyio.move_on_after(30, shield=True):
            return await super()._health(canary=canary)
        return HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False, detail="no answer")


async def _raises(self: WorkerAdapter, *, canary: bool = False) -> HealthReport:
    report = await WorkerAdapter.health(self, canary=canary)
    if report.state is HealthState.UNREACHABLE and self._lifecycle == "open":
        raise ConnectFailed("the engine cannot be reached")
    return report


@breaks("ORCH-3057-002", final={"health": _raises})
class Raises(ReferenceAdapter):
    """Raises from `health`."""


@breaks("ORCH-3057-003")
class CallsItDraining(_Telling):
    """Calls an engine that is gone draining."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        gone = report.state is HealthState.UNREACHABLE
        return {"state": HealthState.DRAINING, "live": True} if gone else {}


@breaks("ORCH-3057-004")
class NeverReady(_Telling):
    """Is never ready."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"state": HealthState.STARTING, "ready": False, "detail": "warming up"} if report.ready else {}


@breaks("ORCH-3057-005")
class ReadyAndDead(_Telling):
    """Is ready and not live."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"live": False} if report.ready else {}


@breaks("ORCH-3057-006")
class ReadyWhenLive(_Telling):
    """Takes live for ready."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"ready": report.live}


@breaks("ORCH-3057-006")
class DeadWhileLoading(_Telling):
    """Takes not ready for dead."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"live": report.ready}


@breaks("ORCH-3057-007")
class ProbesWithInference(ReferenceAdapter):
    """Sends an inference with every probe."""

    async def _health(self, *, canary: bool) -> HealthReport:
        self.server.inferences += 1
        return await super()._health(canary=canary)


@breaks("ORCH-3057-008")
class NamesNoModel(_Telling):
    """Names no model."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"models": ()}


@breaks("ORCH-3057-009")
class LivesInThePast(ReferenceAdapter):
    """Does not look again once the engine was ready."""

    was_ready: HealthReport | None = None

    async def _health(self, *, canary: bool) -> HealthReport:
        if self.was_ready is None:
            report = await super()._health(canary=canary)
            self.was_ready = report if report.ready else None
            return report
        return msgspec.structs.replace(self.was_ready, capacity=self._capacity(), canary=False)


@breaks("ORCH-3057-010")
class NeverForgives(ReferenceAdapter):
    """Does not look again once the engine was gone."""

    gone: HealthReport | None = None

    async def _health(self, *, canary: bool) -> HealthReport:
        if self.gone is not None:
            return self.gone
        report = await super()._health(canary=canary)
        self.gone = None if report.live else report
        return report


async def _unreachable_when_closed(self: WorkerAdapter, *, canary: bool = False) -> HealthReport:
    report = await WorkerAdapter.health(self, canary=canary)
    stopped = report.state is HealthState.STOPPED
    return msgspec.structs.replace(report, state=HealthState.UNREACHABLE) if stopped else report


@breaks("ORCH-3057-011", final={"health": _unreachable_when_closed})
class UnreachableWhenClosed(ReferenceAdapter):
    """Blames the engine for its own close."""


@breaks("ORCH-3057-012")
class DisturbsTasks(ReferenceAdapter):
    """Connects anew for every probe, and breaks the streams that run."""

    async def _health(self, *, canary: bool) -> HealthReport:
        self.server.drop_streams()
        return await super()._health(canary=canary)


@breaks("ORCH-3057-013")
class AlwaysCanary(_Telling):
    """Says canary for every probe."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"canary": True}


@breaks("ORCH-3057-013")
class PretendsACanary(ReferenceAdapter):
    """Says canary and sends none."""

    async def _health(self, *, canary: bool) -> HealthReport:
        return msgspec.structs.replace(await super()._health(canary=False), canary=canary)


@breaks("ORCH-3057-014")
class CountsNothing(ReferenceAdapter):
    """Always says that nothing is in flight."""

    def _capacity(self) -> Capacity:
        return msgspec.structs.replace(super()._capacity(), in_flight=0)


@breaks("ORCH-3057-014")
class CountsForEver(ReferenceAdapter):
    """Counts the tasks that have ended as in flight."""

    total = 0

    def _started(self, task: TaskRequest) -> Started:
        self.total += task.max_tokens != 8
        return super()._started(task)

    def _capacity(self) -> Capacity:
        return msgspec.structs.replace(super()._capacity(), in_flight=self.total)


@breaks("ORCH-3057-017")
class HasTwoNames(ReferenceAdapter):
    """Calls its engine otherwise in started."""

    def _started(self, task: TaskRequest) -> Started:
        return msgspec.structs.replace(super()._started(task), engine="vllm")


@breaks("ORCH-3057-018")
class ForgetsTheVersion(ReferenceAdapter):
    """Does not tell the engine's version in started."""

    def _started(self, task: TaskRequest) -> Started:
        return msgspec.structs.replace(super()._started(task), engine_version=None)


class _Describing(ReferenceAdapter):
    """Changes the properties of the reference adapter."""

    def _changes(self, props: EngineProps) -> dict[str, Any]:
        return {}

    async def _props(self) -> EngineProps:
        props = await super()._props()
        return msgspec.structs.replace(props, **self._changes(props))


@breaks("ORCH-3057-019")
class HidesAModel(_Describing):
    """Lists another model than the one it serves."""

    def _changes(self, props: EngineProps) -> dict[str, Any]:
        return {"models": tuple(msgspec.structs.replace(model, name="other") for model in props.models)}


@breaks("ORCH-3057-020")
class PromisesForNobody(_Describing):
    """Declares for the engine what none of its models has."""

    def _changes(self, props: EngineProps) -> dict[str, Any]:
        without = props.models[0].capabilities - {Capability.SEQUENCES}
        return {"models": (msgspec.structs.replace(props.models[0], capabilities=without),)}


@breaks("ORCH-3057-021")
class BreaksWhenGone(ReferenceAdapter):
    """Breaks when its engine cannot be asked for its properties."""

    async def _props(self) -> EngineProps:
        if self.server.mode is Mode.DOWN:
            raise KeyError("server")
        return await super()._props()


@breaks("ORCH-3057-021")
class AsksForEver(ReferenceAdapter):
    """Waits for the properties of an engine that hangs, whatever the limit."""

    async def _props(self) -> EngineProps:
        with anyio.move_on_after(30, shield=True):
            await self.server.wait_while(lambda: self.server.mode is Mode.PAUSED)
        return await super()._props()


@breaks("ORCH-3057-022")
class MoreFreeThanAll(ReferenceAdapter):
    """Has more free slots than slots."""

    def _capacity(self) -> Capacity:
        capacity = super()._capacity()
        return msgspec.structs.replace(capacity, slots_free=(capacity.slots_total or 0) + 1)


@breaks("ORCH-3057-028")
class SaysNotWhy(_Telling):
    """Gives no reason."""

    def _changed(self, report: HealthReport) -> dict[str, Any]:
        return {"detail": ""}


@breaks("ORCH-3057-021")
class KnowsItsModelsByHeart(ReferenceAdapter):
    """Tells of models that it never asked for."""

    async def _props(self) -> EngineProps:
        server, self.server = self.server, Engine()
        try:
            return await super()._props()
        finally:
            self.server = server
