"""How the engine is, told from what it answers and from what its requests came to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from adapter_api import (
    AccessError,
    AdapterError,
    Capacity,
    ConnectFailed,
    ConnectionLost,
    HealthReport,
    HealthState,
    ModelHealth,
    NotReady,
    Unsupported,
)
from triton_adapter.engine.engine import Engine
from triton_adapter.engine.metadata import state_of
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import MODEL_READY, REPOSITORY_INDEX, SERVER_LIVE, SERVER_READY
from triton_adapter.wire.status import clean

_AT_ONCE = 8
_A_SERVER = {"grpc": "a gRPC", "http": "an HTTP"}


async def probe(engine: Engine) -> HealthReport:
    """Return how the engine is, without sending it an inference.

    The states, in the order in which they are tried:

    unreachable: it did not answer, or something else did; the detail tells refusal, TLS and foreign peers apart.
    degraded, not ready: it answers but refuses us: a restricted protocol, a missing token.
    draining: it says that it is exiting.
    starting: no model is ready and one is loading.
    degraded: models are ready, but one failed to load, is loading or unloading, or its last request died or hung.
    ready: everything that was asked for is ready.
    """
    live = _ask_live(engine)
    ready = _ask_ready(engine)
    index = engine.offers.ask(REPOSITORY_INDEX, v2.RepositoryIndexRequest())
    answers = await asyncio.gather(live, ready, index, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, AdapterError):
            raise answer
    alive, all_ready, indexed = answers
    if isinstance(alive, Unsupported) and isinstance(all_ready, bool):
        alive = True  # not every server has both questions, and one answer will do
    if isinstance(all_ready, Unsupported) and isinstance(alive, bool):
        all_ready = alive
    listed = () if indexed is None or isinstance(indexed, BaseException) else models_of(indexed)
    capacity = Capacity(in_flight=engine.slots.in_flight)
    if isinstance(all_ready, NotReady) or isinstance(alive, NotReady):
        return HealthReport(
            state=HealthState.DRAINING, live=True, ready=False, capacity=capacity,
            models=listed, detail="the server is stopping; it takes nothing new",
        )  # fmt: skip
    if isinstance(alive, AccessError):
        return HealthReport(state=HealthState.DEGRADED, live=True, ready=False, capacity=capacity, detail=alive.message)
    if isinstance(alive, ConnectFailed | ConnectionLost):
        engine.note_disconnect()
    if isinstance(alive, AdapterError):
        way = engine.transport.traits.way
        foreign = (
            f"{engine.transport.where}: {_A_SERVER[way]} server answers there, but none of the v2 protocol (Triton's)"
        )
        return HealthReport(
            state=HealthState.UNREACHABLE, live=False, ready=False, capacity=capacity,
            detail=foreign if isinstance(alive, Unsupported) else alive.message,
        )  # fmt: skip
    # What the host wants is asked about only where the server does not say itself whether it has it.
    wanted = engine.named_models if listed else engine.named_models | engine.wanted_models
    known = listed + await _ask_each(engine, wanted - {model.name for model in listed})
    report = _judge(engine, known, listed=bool(listed), all_ready=all_ready is True, capacity=capacity)
    if isinstance(indexed, AdapterError):
        # It has an index, and that is broken: what it has is not known, whatever the rest says.
        detail = "; ".join(filter(None, (report.detail, f"which models it has is not known: {indexed.message}")))
        report = msgspec.structs.replace(report, detail=detail)
    return report


def _judge(
    engine: Engine, models: tuple[ModelHealth, ...], *, listed: bool, all_ready: bool, capacity: Capacity
) -> HealthReport:
    for name in {model.name for model in models} - {model.name for model in models if model.ready}:
        # Being loaded anew, most likely: what went wrong before says nothing of what comes.
        engine.note_success(name)
    models = tuple(_distrusted(engine, model) for model in models)
    ready = [model for model in models if model.ready]
    settings = engine.settings
    # A model that a task once used may go: where nothing is listed, the server may have others.
    asked_for = bool(settings.model or settings.models or engine.wanted_models)
    faults = [f"{model.name}: {model.reason}" for model in models if model.reason and not _left_out(model)]
    moving = [f"{model.name} is {model.state.lower()}" for model in models if model.state in ("LOADING", "UNLOADING")]
    detail = "; ".join((*faults, *moving))
    if not ready and any(model.state == "LOADING" for model in models):
        state = HealthState.STARTING
    elif ready and all_ready and not faults:
        state = HealthState.READY
    elif not models:
        # A server without models, or one that does not say which it has: its own word is all there is.
        state = HealthState.READY if all_ready else HealthState.STARTING
        detail = detail or ("" if all_ready else "the server is not ready yet")
    else:
        state = HealthState.DEGRADED
        detail = detail or ("no model is loaded" if not ready else "the server calls itself not ready")
    return HealthReport(
        state=state,
        live=True,
        ready=bool(ready) or (all_ready and not listed and not asked_for),
        models=models,
        models_listed=listed,
        capacity=capacity,
        detail=detail,
    )


def _left_out(model: ModelHealth) -> bool:
    """Unloaded, or never loaded, on purpose: nothing is wrong with that."""
    return not model.ready and model.reason in (None, "", "unloaded")


def _distrusted(engine: Engine, model: ModelHealth) -> ModelHealth:
    failure = engine.failure_of(model.name) if model.ready else None
    if failure is None:
        return model
    return ModelHealth(
        name=model.name, ready=False, version=model.version, state=model.state,
        reason=f"the server calls it ready, but its last request failed: {failure}",
    )  # fmt: skip


async def _ask_live(engine: Engine) -> bool:
    answer = await engine.transport.control(
        SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=engine.settings.control_timeout_s, stage="health"
    )
    return answer.live


async def _ask_ready(engine: Engine) -> bool:
    answer = await engine.transport.control(
        SERVER_READY, v2.ServerReadyRequest(), timeout_s=engine.settings.control_timeout_s, stage="health"
    )
    return answer.ready


def models_of(index: v2.RepositoryIndexResponse) -> tuple[ModelHealth, ...]:
    """Return the health of the models in a repository index, one entry per version."""
    return tuple(
        ModelHealth(
            name=entry.name,
            ready=state_of(entry) == "READY",
            version=entry.version or None,
            state=state_of(entry) or None,
            reason=clean(entry.reason) or None,
        )
        for entry in sorted(index.models, key=lambda entry: (entry.name, entry.version))
    )


async def _ask_each(engine: Engine, names: Iterable[str]) -> tuple[ModelHealth, ...]:
    """Ask for models that are not in the index, or where there is none."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> ModelHealth | None:
        async with limit:
            return await _ask_model(engine, name)

    found = await asyncio.gather(*(one(name) for name in sorted(names)))
    return tuple(model for model in found if model is not None)


async def _ask_model(engine: Engine, name: str) -> ModelHealth | None:
    """Return what the server says of one model; `None` where it has no word on that."""
    try:
        answer = await engine.transport.control(
            MODEL_READY, v2.ModelReadyRequest(name=name), timeout_s=engine.settings.control_timeout_s, stage="health",
            what=f"model {name!r}",
        )  # fmt: skip
    except Unsupported:
        return None
    except AdapterError as exc:
        # Servers other than Triton refuse the question about a model that they do not have.
        return ModelHealth(name=name, ready=False, reason=exc.message)
    return ModelHealth(name=name, ready=answer.ready, reason=None if answer.ready else "not ready")
