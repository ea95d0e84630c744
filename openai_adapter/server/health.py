"""How the engine is, told from what it answers. Never by an inference."""

from __future__ import annotations

import asyncio

import msgspec

from adapter_api import (
    AccessError,
    AdapterError,
    Capacity,
    HealthReport,
    HealthState,
    ModelHealth,
    NotReady,
    Overloaded,
)
from openai_adapter.engine.engine import Engine
from openai_adapter.engine.facts import ask_load
from openai_adapter.engine.listing import Listing
from openai_adapter.engine.questions import Answer

_FRESH_S = 0.0
_NOT_READY = "the server lists it and says that it is not ready; the health of its own engines tells why"
"""Why a model that the server lists takes no work, which lists do not say."""
_SHARE = 0.5
"""How much of the time for a control call the figures may take."""


async def probe(engine: Engine) -> HealthReport:
    """Return how the engine is.

    The states, in the order in which they are tried:

    unreachable: it did not answer, or what answers has no such API.
    degraded, not ready: it answers and refuses us: a key is missing or wrong; or it says that it is not ready, nor any
    of the models that it lists.
    starting: it says that it is not ready, or it is up and has no model yet.
    degraded: a model that somebody wants is not among those it lists, or not ready there.
    ready: it says so, or lists its models where it has no word on its health.
    """
    asked = await asyncio.gather(_ask_health(engine), engine.listing(within_s=_FRESH_S), return_exceptions=True)
    for each in asked:
        if isinstance(each, BaseException) and not isinstance(each, AdapterError):
            raise each
    health, listing = asked
    if isinstance(health, AdapterError):
        engine.note_failure(health)
        return _report(engine, HealthState.UNREACHABLE, detail=health.message)
    if isinstance(listing, AdapterError):
        listing = Listing(problem=listing)
    assert not isinstance(health, BaseException)
    assert not isinstance(listing, BaseException)
    report = _judge(engine, health, listing)
    return report


async def with_load(engine: Engine, report: HealthReport) -> HealthReport:
    """Return a report with what the engine works on, where it tells."""
    if not report.ready:
        return report
    load = await ask_load(engine.questions, engine.address.root, timeout_s=engine.settings.control_timeout_s * _SHARE)
    total = engine.settings.slots or (await engine.facts()).slots_total
    free = load.free
    if free is None and total is not None and load.running is not None:
        free = max(0, total - load.running)
    capacity = Capacity(slots_total=total, slots_free=free, queued=load.waiting, in_flight=engine.in_flight)
    return HealthReport(
        state=report.state, live=report.live, ready=report.ready, models=report.models,
        models_listed=report.models_listed, capacity=capacity, detail=report.detail,
    )  # fmt: skip


async def _ask_health(engine: Engine) -> Answer | None:
    """Return what the engine says of its health; `None` where it has no word on that."""
    for path in ("/health", "/health/ready"):
        answer = await engine.questions.ask_unless_lacking(engine.address.root + path)
        if answer is not None:
            return answer
    return None


def _judge(engine: Engine, health: Answer | None, listing: Listing) -> HealthReport:
    problem = listing.problem
    if isinstance(problem, AccessError):
        return _report(engine, HealthState.DEGRADED, detail=problem.message, live=True)
    if health is not None and not health.ok:
        error = engine.questions.error(health, f"the engine at {engine.where}")
        unready = isinstance(error, NotReady | Overloaded) or health.status == 400
        state = HealthState.STARTING if unready else HealthState.DEGRADED
        if health.status in (502, 504):
            state = HealthState.UNREACHABLE
        if state is HealthState.STARTING and listing.cards and not any(card.ready for card in listing.cards):
            # Nobody can tell whether they are about to be: an engine behind it may load, or be dead.
            certain = engine.settings.unlisted_models == "refuse"
            report = _report(engine, HealthState.DEGRADED, detail=error.message, live=True, listed=certain)
            return msgspec.structs.replace(report, models=_listed(listing, frozenset(listing.names)))
        return _report(engine, state, detail=error.message, live=state is not HealthState.UNREACHABLE)
    if problem is not None and health is None:
        if isinstance(problem, NotReady):
            return _report(engine, HealthState.STARTING, detail=problem.message, live=True)
        detail = f"an HTTP server answers at {engine.where}, but none with OpenAI's API: {problem.message}"
        return _report(engine, HealthState.UNREACHABLE, detail=detail)
    if listing.known and not listing.cards and engine.settings.unlisted_models == "refuse":
        detail = "the engine is up and lists no model: it waits for a worker, or is still loading"
        return _report(engine, HealthState.STARTING, detail=detail, live=True, listed=True)
    return _of_models(engine, listing)


def _of_models(engine: Engine, listing: Listing) -> HealthReport:
    wanted = engine.wanted_models
    certain = listing.known and engine.settings.unlisted_models == "refuse"
    models = [*_listed(listing, wanted)]
    unready = [model.name for model in models if not model.ready and model.name in wanted]
    missing = []
    for name in sorted(wanted - set(listing.names)):
        if not certain:
            models.append(ModelHealth(name=name, ready=True))
        elif name != engine.settings.model:
            models.append(ModelHealth(name=name, ready=False, reason="the engine does not list it"))
            missing.append(name)
    faults = (("does not list", missing), ("lists as not ready", unready))
    detail = "; ".join(f"the engine {what} {', '.join(names)}" for what, names in faults if names)
    if not listing.known:
        detail = f"which models it has is not known: {listing.problem}"
    return HealthReport(
        state=HealthState.DEGRADED if missing or unready else HealthState.READY,
        live=True, ready=True, models=tuple(models), models_listed=certain,
        capacity=Capacity(in_flight=engine.in_flight), detail=detail,
    )  # fmt: skip


def _listed(listing: Listing, wanted: frozenset[str]) -> tuple[ModelHealth, ...]:
    """Return the models that it lists. Lists give no reason: a model that is not ready may have been unloaded on
    purpose, and something is wrong only where somebody wants it."""
    unready = wanted - {card.name for card in listing.cards if card.ready}
    return tuple(
        ModelHealth(name=card.name, ready=card.ready, reason=_NOT_READY if card.name in unready else None)
        for card in listing.cards
    )


def _report(
    engine: Engine, state: HealthState, *, detail: str, live: bool = False, listed: bool = False
) -> HealthReport:
    return HealthReport(
        state=state, live=live, ready=False, capacity=Capacity(in_flight=engine.in_flight), detail=detail,
        models_listed=listed,
    )  # fmt: skip
