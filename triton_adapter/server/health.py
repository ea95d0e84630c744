"""How the engine is, told from what it answers and from what its requests came to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

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
    index = _ask_index(engine)
    answers = await asyncio.gather(live, ready, index, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, AdapterError):
            raise answer
    alive, all_ready, models = answers
    capacity = Capacity(in_flight=engine.slots.in_flight)
    if isinstance(all_ready, NotReady) or isinstance(alive, NotReady):
        return HealthReport(
            state=HealthState.DRAINING, live=True, ready=False, capacity=capacity,
            models=models if isinstance(models, tuple) else (), detail="the server is stopping; it takes nothing new",
        )  # fmt: skip
    if isinstance(alive, AccessError):
        return HealthReport(state=HealthState.DEGRADED, live=True, ready=False, capacity=capacity, detail=alive.message)
    if isinstance(alive, ConnectFailed | ConnectionLost):
        engine.note_disconnect()
    if isinstance(alive, AdapterError):
        foreign = f"{engine.transport.where}: a gRPC server answers there, but none of the v2 protocol (Triton's)"
        return HealthReport(
            state=HealthState.UNREACHABLE, live=False, ready=False, capacity=capacity,
            detail=foreign if isinstance(alive, Unsupported) else alive.message,
        )  # fmt: skip
    listed = models if isinstance(models, tuple) else ()
    known = listed + await _ask_each(engine, engine.named_models - {model.name for model in listed})
    return _judge(engine, known, all_ready=all_ready is True, capacity=capacity)


def _judge(engine: Engine, models: tuple[ModelHealth, ...], *, all_ready: bool, capacity: Capacity) -> HealthReport:
    for name in {model.name for model in models} - {model.name for model in models if model.ready}:
        # Being loaded anew, most likely: what went wrong before says nothing of what comes.
        engine.note_success(name)
    models = tuple(_distrusted(engine, model) for model in models)
    ready = [model for model in models if model.ready]
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
        ready=bool(ready) or (not models and all_ready),
        models=models,
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


async def _ask_index(engine: Engine) -> tuple[ModelHealth, ...]:
    answer = await engine.transport.control(
        REPOSITORY_INDEX, v2.RepositoryIndexRequest(), timeout_s=engine.settings.control_timeout_s, stage="health"
    )
    return models_of(answer)


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
    found = []
    for name in sorted(names):
        try:
            answer = await engine.transport.control(
                MODEL_READY, v2.ModelReadyRequest(name=name), timeout_s=engine.settings.control_timeout_s,
                stage="health",
            )  # fmt: skip
        except AdapterError:
            continue
        found.append(ModelHealth(name=name, ready=answer.ready, reason=None if answer.ready else "not ready"))
    return tuple(found)
