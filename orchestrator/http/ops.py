"""For those who run the host: is it up, what are the pools doing, metrics, drain and reload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from adapter_api import ConfigurationError, InvalidRequest
from orchestrator.http import bodies
from orchestrator.http.problems import RETRY_SOON, Refused
from orchestrator.http.reading import parse_object
from orchestrator.http.service import client_of, read_body, service_of

probes = APIRouter(tags=["probes"])
"""For orchestrators of containers and load balancers: on every port, without a key."""
router = APIRouter(tags=["operations"])


@probes.get("/health")
async def health(request: Request) -> Response:
    """Say, as vLLM's server does, whether requests are taken: 200, else 503."""
    return await ready(request)


@probes.get("/ping")
async def ping(request: Request) -> Response:
    """Say the same under the name that SageMaker's clients ask for."""
    return await ready(request)


@probes.get("/health/ready")
async def health_ready(request: Request) -> Response:
    """Say the same under the name that Triton's OpenAI frontend has."""
    return await ready(request)


@probes.get("/livez")
async def live() -> Response:
    """Say that the process serves."""
    return Response("ok\n", media_type="text/plain")


@probes.get("/readyz")
async def ready(request: Request) -> Response:
    """Say whether a pool takes work: 200, else 503."""
    orchestrator = service_of(request).orchestrator
    if orchestrator.ready:
        return Response("ready\n", media_type="text/plain")
    drained = all(pool.draining for pool in orchestrator.pools)
    why = "draining: nothing new is taken\n" if drained else "no replica is ready\n"
    return Response(why, 503, RETRY_SOON, "text/plain")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return all metrics in Prometheus' text form."""
    client_of(request).require_watch()
    registry = service_of(request).orchestrator.collect_metrics()
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/load")
async def load(request: Request) -> Response:
    """Return, as vLLM's server does, how many pieces of work wait or run."""
    client_of(request).require_watch()
    return _json({"server_load": service_of(request).orchestrator.load})


@router.get("/v2/pools")
async def pools(request: Request) -> Response:
    """Describe every pool and replica."""
    client_of(request).require_watch()
    return _json({"pools": service_of(request).orchestrator.pools})


@router.get("/v2/pools/{pool_id}/health")
async def pool_health(request: Request, pool_id: str) -> Response:
    """Describe one pool; 503 when it takes no work."""
    client_of(request).require_watch()
    orchestrator = service_of(request).orchestrator
    with _not_found():
        orchestrator.require_pool(pool_id)
    status = next(pool for pool in orchestrator.pools if pool.pool_id == pool_id)
    return _json(status, 200 if status.ready else 503)


@router.post("/v2/pools/{pool_id}/drain", openapi_extra=bodies.DRAIN)
async def drain(request: Request, pool_id: str) -> Response:
    """Send nothing new to a pool, or to its `replica_id`; `timeout_s` waits for what runs; `resume: true` undoes it."""
    client_of(request).require_admin()
    orchestrator = service_of(request).orchestrator
    options = await _options(request, "replica_id", "timeout_s", "resume")
    replica_id, timeout_s = options.get("replica_id"), options.get("timeout_s", 0)
    if not isinstance(replica_id, str | None):
        raise InvalidRequest("replica_id must be a text")
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not 0 <= timeout_s <= 3600:
        raise InvalidRequest("timeout_s must be a number of seconds from 0 to 3600")
    resume = _flag(options, "resume")
    with _not_found():
        if resume:
            orchestrator.resume(pool_id, replica_id)
            return _json({"pool_id": pool_id, "replica_id": replica_id, "draining": False})
        return _json(await orchestrator.drain(pool_id, replica_id, timeout_s=timeout_s))


@router.post("/v2/pools/{pool_id}/reload", openapi_extra=bodies.RELOAD)
async def reload(request: Request, pool_id: str) -> Response:
    """Go over to the settings' file as it is now, all of it or none; `revert: true` takes a pool back one step."""
    client_of(request).require_admin()
    service, options = service_of(request), await _options(request, "revert")
    with _not_found():
        service.orchestrator.require_pool(pool_id)
    if _flag(options, "revert"):
        return _json(await service.orchestrator.revert(pool_id))
    if service.reload is None:
        raise ConfigurationError("the host was started without a settings file: there is nothing to read again")
    return _json(await service.reload())


@router.get("/v2/rollout")
async def rollout(request: Request) -> Response:
    """Return the pools side by side: latency, throughput, errors, and how shadows agree with what they shadow."""
    client_of(request).require_watch()
    return _json(service_of(request).orchestrator.rollout_report())


@router.get("/v2/meta/capabilities")
async def capabilities(request: Request) -> Response:
    """Return what each model can do here, and by which parsers its pools tell calls and thoughts from its text."""
    orchestrator, client = service_of(request).orchestrator, client_of(request)
    found = []
    for name in orchestrator.models():
        if client.may_use(name):
            told = orchestrator.offer(name)
            found.append({
                "model": name,
                "ready": orchestrator.model_is_ready(name),
                "versions": told.versions if told else (),
                "dialect": told.dialect if told else None,
                "capabilities": sorted(told.capabilities) if told else [],
                "uncertain": sorted(told.uncertain) if told else [],
                "max_tokens": told.max_tokens if told else None,
                "pools": orchestrator.parsers(name),
            })  # fmt: skip
    return _json({"models": found})


@router.get("/v2/plugins")
async def plugins(request: Request) -> Response:
    """Return what became of every plugin, and why."""
    client_of(request).require_admin()
    return _json({"plugins": service_of(request).orchestrator.plugins.reports})


async def _options(request: Request, *known: str) -> dict[str, Any]:
    options = await read_body(request, lambda body: parse_object(body) if body else {})
    for name in options:
        if name not in known:
            raise InvalidRequest(f"unknown field {name!r}; there are {', '.join(known)}")
    return options


def _flag(options: dict[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false")
    return value


@contextmanager
def _not_found() -> Iterator[None]:
    try:
        yield
    except KeyError as exc:
        raise Refused("not_found", str(exc.args[0])) from exc


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, RETRY_SOON if status == 503 else None, "application/json")
