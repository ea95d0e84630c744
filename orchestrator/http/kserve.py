"""The v2 inference protocol (KServe's, Triton's) over REST: health, metadata, and inference on tensors."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from adapter_api import InferRequest, InferResponse, ModelNotFound, ModelProps
from orchestrator.http import bodies
from orchestrator.http.answers import cancel_when_gone
from orchestrator.http.kserve_codec import decode_request, encode_response
from orchestrator.http.model_paths import Named, named_in
from orchestrator.http.ops import probes
from orchestrator.http.problems import RETRY_SOON
from orchestrator.http.reading import trace_of
from orchestrator.http.service import client_of, read_body, service_of

router = APIRouter(tags=["v2 inference protocol"])

_HEADER_LENGTH = "Inference-Header-Content-Length"


@probes.get("/v2/health/live")
async def live() -> Response:
    """Say that the process serves."""
    return _json({"live": True})


@probes.get("/v2/health/ready")
async def ready(request: Request) -> Response:
    """Say whether a pool takes work: 200, else 503."""
    is_ready = service_of(request).orchestrator.ready
    return _json({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/v2")
async def server() -> Response:
    """Name the server and the extensions it knows."""
    return _json({"name": "worker-adapter", "version": own_version(), "extensions": ["binary_tensor_data", "sequence"]})


@router.post("/v2/repository/index")
async def index(request: Request) -> Response:
    """List the models."""
    service, client = service_of(request), client_of(request)
    listed = []
    for name in service.orchestrator.models():
        if client.may_use(name):
            props = service.orchestrator.model_props(name)
            state = "READY" if service.orchestrator.model_is_ready(name) else "UNAVAILABLE"
            for each in (props[1].versions if props else ()) or ("",):
                listed.append({"name": name, "version": each, "state": state, "reason": ""})
    return _json(listed)


@router.get("/v2/models/{model:path}/ready")
@router.get("/v2/models/{model:path}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """Say whether a replica takes work for the model: 200, else 503; 404 when none has it."""
    return await _look(request)


@router.get("/v2/models/{model:path}")
@router.get("/v2/models/{model:path}/versions/{version}")
async def metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Describe a model. Its name may have slashes, as they are or as `%2F`."""
    return await _look(request)


async def _look(request: Request) -> Response:
    named = _named(request, frozenset({"ready"}))
    if not _exists(request)(named.model) and _named(request, frozenset({"infer"})).verb:
        raise HTTPException(405, headers={"Allow": "POST"})
    props = _props(request, named)
    if props is None and named.model not in service_of(request).orchestrator.models():
        props = await service_of(request).orchestrator.ask_for_model(named.model)
    if named.verb:
        is_ready = service_of(request).orchestrator.model_is_ready(named.model, named.version)
        return _json({"name": named.model, "ready": is_ready}, 200 if is_ready else 503)
    return _json({
        "name": named.model,
        "versions": props.versions if props else (),
        "platform": (props.dialect if props else None) or "",
        "inputs": props.inputs if props else (),
        "outputs": props.outputs if props else (),
    })  # fmt: skip


@router.post("/v2/models/{model:path}/infer", openapi_extra=bodies.INFERENCE)
@router.post("/v2/models/{model:path}/versions/{version}/infer", openapi_extra=bodies.INFERENCE)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Run one inference. Leaving cancels it."""
    service, client = service_of(request), client_of(request)
    named = _named(request, frozenset({"infer"}))
    client.require_model(named.model)
    _props(request, named)
    client.count_request()
    header_length, values = request.headers.get(_HEADER_LENGTH), service.settings.limits.max_json_values
    asked, form = await read_body(
        request, lambda body: decode_request(body, header_length, named.model, named.version, values=values)
    )
    asked = msgspec.structs.replace(asked, **trace_of(request.headers))
    response = await _infer_unless_gone(request, asked, client.name)
    if response is None:
        return Response(status_code=499)  # the client is gone; nobody reads this
    size = sum(len(tensor.data) for tensor in response.outputs)
    encoded, length = await service.beside(lambda: encode_response(response, form), size)
    headers = {"X-Job-Id": asked.request_id}
    if length is None:
        return Response(encoded, headers=headers, media_type="application/json")
    headers[_HEADER_LENGTH] = str(length)
    return Response(encoded, headers=headers, media_type="application/octet-stream")


async def _infer_unless_gone(request: Request, asked: InferRequest, owner: str | None) -> InferResponse | None:
    response: InferResponse | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(cancel_when_gone, request.receive, group.cancel_scope)
        try:
            response = await service_of(request).orchestrator.infer(asked, owner=owner)
        except Exception as exc:  # raised below: inside, the group would wrap it
            failure = exc
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return response


def _named(request: Request, verbs: frozenset[str]) -> Named:
    return named_in(request.scope, verbs, _exists(request))


def _exists(request: Request) -> Callable[[str], bool]:
    orchestrator, client = service_of(request).orchestrator, client_of(request)
    return lambda name: client.may_use(name) and orchestrator.may_have(name)


def _props(request: Request, named: Named) -> ModelProps | None:
    """Return what is known of a model that may be there; raises `ModelNotFound` for others."""
    orchestrator, model, version = service_of(request).orchestrator, named.model, named.version
    if not _exists(request)(model):
        raise ModelNotFound(f"no replica has a model {model!r}")
    found = orchestrator.model_props(model)
    if version is not None and found and found[1].versions and version not in found[1].versions:
        raise ModelNotFound(f"model {model!r} has no version {version!r}; there are {', '.join(found[1].versions)}")
    return found[1] if found else None


def own_version() -> str:
    try:
        return version("worker-adapter")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, RETRY_SOON if status == 503 else None, "application/json")
