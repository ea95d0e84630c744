"""What is known of an engine, gathered without sending it work, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from time import perf_counter

import anyio
import msgspec

from adapter_api import AdapterError, EngineProps, Finding, HealthReport, HealthState, ModelHealth, WorkerAdapter
from worker_adapter.reachability import Diagnosis, diagnose

_GRAVITY = ("error", "warning", "hint")
_ON_PURPOSE = (None, "", "unloaded")
_LEAST_DIAGNOSIS_S = 1.0
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


class Note(Finding, frozen=True, kw_only=True):
    """A finding, and the model it is about; `None` for the engine itself."""

    model: str | None = None


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an examination. `fault` says what keeps us from reaching the engine, when something does."""

    adapter: str
    url: str | None
    reachable: bool
    fault: str | None = None
    health: HealthReport
    props: EngineProps | None = None
    notes: tuple[Note, ...] = msgspec.field(default=(), name="findings")

    @property
    def has_errors(self) -> bool:
        return any(note.severity == "error" for note in self.notes)


async def examine(adapter: WorkerAdapter, *, url: str | None, canary: bool, http: bool = False) -> Checkup:
    """Return what is known of the engine behind an open adapter. Never raises because of the engine.

    Takes up to three times the adapter's `control_timeout_s`: for its health, its properties, and the canary.

    Args:
        url: Where the engine is, as the user wrote it; asked step by step when nothing answers there.
        canary: Send one small inference too.
        http: Whether `http://` in the URL means HTTP, and not gRPC without TLS.
    """
    began = perf_counter()
    health = await adapter.health()
    if health.state is HealthState.UNREACHABLE:
        left_s = adapter.control_timeout_s - (perf_counter() - began)
        timeout_s = max(left_s, min(adapter.control_timeout_s, _LEAST_DIAGNOSIS_S))
        diagnosis = None
        if url is not None:
            diagnosis = await anyio.to_thread.run_sync(lambda: diagnose(url, timeout_s=timeout_s, http=http))
        return Checkup(
            adapter=adapter.engine, url=url, reachable=False, fault=diagnosis.fault if diagnosis else "unknown",
            health=health, notes=(_unreachable(health, diagnosis),),
        )  # fmt: skip
    notes = [*_of_health(health), *_of_models(health.models)]
    props: EngineProps | None = None
    try:
        props = await adapter.props()
    except AdapterError as exc:
        if exc.message != health.detail:
            notes.append(Note(severity="error", topic="health", message=f"it does not describe itself: {exc.message}"))
    else:
        notes += _of_props(props, told={note.model for note in notes})
    if canary and health.ready:
        checked = await adapter.health(canary=True)
        notes += _of_canary(before=health, after=checked)
        health = checked if checked.state is not HealthState.UNREACHABLE else health
    notes.sort(key=lambda note: (_GRAVITY.index(note.severity), note.model is not None, note.model or ""))
    return Checkup(
        adapter=adapter.engine, url=url, reachable=True, health=health, props=props, notes=tuple(notes)
    )  # fmt: skip


def with_note(found: Checkup, message: str, advice: str) -> Checkup:
    """Return the checkup with one more hint about how the engine was found."""
    note = Note(severity="hint", topic="health", message=message, advice=advice)
    return msgspec.structs.replace(found, notes=(*found.notes, note))


def _unreachable(health: HealthReport, diagnosis: Diagnosis | None) -> Note:
    if diagnosis is None:
        proxied = any(os.environ.get(name) for name in _PROXY_VARIABLES)
        return Note(
            severity="error", topic="health", message=health.detail or "nothing answers there",
            advice="the environment names a proxy, which may be in the way: put the host into no_proxy"
            if proxied else "start the engine, or correct the URL",
        )  # fmt: skip
    return Note(severity="error", topic="health", message=diagnosis.message, advice=diagnosis.advice)


def _of_health(health: HealthReport) -> Iterator[Note]:
    detail = health.detail or f"it is {health.state.value}"
    if not health.ready:
        advice = {
            HealthState.STARTING: "wait until its models are loaded",
            HealthState.DRAINING: "use another replica; this one is about to end",
        }.get(health.state, "")
        yield Note(severity="error", topic="health", message=f"it takes no work: {detail}", advice=advice)
    elif health.state is HealthState.DEGRADED and not any(_is_broken(model) for model in health.models):
        yield Note(severity="warning", topic="health", message=f"it takes work, but is degraded: {detail}")


def _of_models(models: Iterable[ModelHealth]) -> Iterator[Note]:
    models = tuple(models)
    working = {model.name for model in models if model.ready}
    for model in models:
        if model.ready:
            continue
        version = f"version {model.version} " if model.version else ""
        state = (model.state or "").lower()
        if _is_broken(model):
            yield Note(
                severity="error", topic="health", model=model.name, message=f"{version}not ready: {model.reason}",
                advice="mend what the reason names, then load the model again",
            )  # fmt: skip
        elif state in ("loading", "unloading"):
            yield Note(severity="warning", topic="health", model=model.name, message=f"{version}{state}")
        elif model.name not in working:
            working.add(model.name)
            yield Note(
                severity="hint", topic="health", model=model.name,
                message="known to the engine, but not loaded, or what has it there is not ready",
                advice="load it if it is needed, or see to what has it",
            )  # fmt: skip


def _is_broken(model: ModelHealth) -> bool:
    return not model.ready and model.reason not in _ON_PURPOSE


def _of_props(props: EngineProps, *, told: set[str | None]) -> Iterator[Note]:
    if not props.models and props.models_listed:
        yield Note(severity="warning", topic="model", message="it has no model that is ready", advice="load one")
    for finding in props.findings:
        yield _note(finding, None)
    for model in props.models:
        for finding in model.findings:
            yield _note(finding, model.name)
        found_out = any(finding.severity == "error" for finding in model.findings)
        if model.ready is False and model.name not in told and not found_out:
            yield Note(
                severity="error", topic="health", model=model.name,
                message=f"not ready: {model.dialect_reason or 'the engine does not say why'}",
            )  # fmt: skip


def _note(finding: Finding, model: str | None) -> Note:
    return Note(**msgspec.structs.asdict(finding), model=model)


def _of_canary(*, before: HealthReport, after: HealthReport) -> Iterator[Note]:
    if after.state is HealthState.UNREACHABLE or (after.canary and "canary failed" in after.detail):
        yield Note(
            severity="error", topic="health", message=after.detail,
            advice="the engine calls itself ready and does not work: look at its log, restart it",
        )  # fmt: skip
    elif not after.canary:
        yield Note(
            severity="hint", topic="health", message=f"no canary was sent: {after.detail or 'the adapter has none'}"
        )  # fmt: skip
    elif after.state is not before.state:
        yield Note(
            severity="warning", topic="health",
            message=f"after the canary it is {after.state.value}: {after.detail or 'no reason given'}",
        )  # fmt: skip
