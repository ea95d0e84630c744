"""What the v2 protocol tells of models: which there are, what they take, how they are configured."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import InvalidRequest, TensorSpec
from orchestrator.http import bodies
from orchestrator.http.kserve_asked import GET_VERBS, json_answer, named_by, props_of
from orchestrator.http.model_paths import Named
from orchestrator.http.reading import parse_object
from orchestrator.http.service import client_of, read_body, service_of

router = APIRouter(tags=["v2 inference protocol"])


@router.post("/v2/repository/index", openapi_extra=bodies.INDEX)
async def index(request: Request) -> Response:
    """List the models, with each version's state; `ready`: only those that are."""
    orchestrator, client = service_of(request).orchestrator, client_of(request)
    options = await read_body(request, lambda body: parse_object(body) if body else {})
    only_ready = options.get("ready", False)
    if not isinstance(only_ready, bool):
        raise InvalidRequest("'ready' must be true or false")
    listed = []
    for name in orchestrator.models():
        if client.may_use(name):
            props = orchestrator.model_props(name)
            for each in (props[1].versions if props else ()) or ("",):
                is_ready = orchestrator.model_is_ready(name, each or None)
                if is_ready or not only_ready:
                    state = "READY" if is_ready else "UNAVAILABLE"
                    listed.append({"name": name, "version": each, "state": state, "reason": ""})
    return json_answer(listed)


@router.get("/v2/models/{model:path}/ready")
@router.get("/v2/models/{model:path}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """Say whether a replica takes work for the model: 200, else 503; 404 when none has it."""
    return await _look(request)


@router.get("/v2/models/{model:path}/config")
@router.get("/v2/models/{model:path}/versions/{version}/config")
async def model_config(request: Request, model: str, version: str | None = None) -> Response:
    """Return a model's configuration as Triton's `ModelConfig`; 501 when its engine has none."""
    return await _look(request)


@router.get("/v2/models/stats")
async def all_statistics(request: Request) -> Response:
    """Return what every model has done since the host was started."""
    client, orchestrator = client_of(request), service_of(request).orchestrator
    client.require_watch()
    names = [name for name in orchestrator.models() if client.may_use(name)]
    return json_answer({"model_stats": [each for name in names for each in orchestrator.statistics(name)]})


@router.get("/v2/models/{model:path}/stats")
@router.get("/v2/models/{model:path}/versions/{version}/stats")
async def statistics(request: Request, model: str, version: str | None = None) -> Response:
    """Return what a model has done since the host was started: counts, and times in nanoseconds."""
    return await _look(request)


@router.get("/v2/models/{model:path}")
@router.get("/v2/models/{model:path}/versions/{version}")
async def metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Describe a model. Its name may have slashes, as they are or as `%2F`."""
    return await _look(request)


async def _look(request: Request) -> Response:
    """Answer what the path asks for: only the models there are tell which of its readings that is."""
    named = named_by(request, GET_VERBS)
    props = props_of(request, named)
    orchestrator = service_of(request).orchestrator
    if named.verb == "config":
        return json_answer(await orchestrator.model_config(named.model, named.version))
    if named.verb == "stats":
        client_of(request).require_watch()
        return json_answer({"model_stats": orchestrator.statistics(named.model, named.version)})
    if props is None and named.model not in orchestrator.models():
        props = await orchestrator.ask_for_model(named.model)
    if named.verb == "ready":
        return _readiness(request, named)
    return json_answer({
        "name": named.model,
        "versions": (named.version,) if named.version else props.versions if props else (),
        "platform": (props.dialect if props else None) or "",
        "inputs": [_tensor(spec) for spec in props.inputs] if props else (),
        "outputs": [_tensor(spec) for spec in props.outputs] if props else (),
    })  # fmt: skip


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _readiness(request: Request, named: Named) -> Response:
    is_ready = service_of(request).orchestrator.model_is_ready(named.model, named.version)
    return json_answer({"name": named.model, "ready": is_ready}, 200 if is_ready else 503)
