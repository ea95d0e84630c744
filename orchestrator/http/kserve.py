"""The v2 inference protocol (KServe's, Triton's) over REST: health, metadata, and inference on tensors."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import InferRequest, InferResponse, ModelNotFound, ModelProps
from orchestrator.http.answers import cancel_when_gone
from orchestrator.http.kserve_codec import decode_request, encode_response
from orchestrator.http.ops import probes
from orchestrator.http.reading import trace_of
from orchestrator.http.service import client_of, read_body, service_of

router = APIRouter(tags=["v2 inference protocol"])

_HEADER_LENGTH = "Inference-Header-Content-Length"
_TENSORS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}},
    }
}


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
    return _json(
        {"name": "worker-adapter", "version": _own_version(), "extensions": ["binary_tensor_data", "sequence"]}
    )


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


@router.get("/v2/models/{model}")
@router.get("/v2/models/{model}/versions/{version}")
async def metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Describe a model."""
    props = _props(request, model, version)
    return _json({
        "name": model,
        "versions": props.versions if props else (),
        "platform": (props.dialect if props else None) or "",
        "inputs": props.inputs if props else (),
        "outputs": props.outputs if props else (),
    })  # fmt: skip


@router.get("/v2/models/{model}/ready")
@router.get("/v2/models/{model}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """Say whether a replica takes work for the model: 200, else 503; 404 when none has it."""
    _props(request, model, version)
    is_ready = service_of(request).orchestrator.model_is_ready(model, version)
    return _json({"name": model, "ready": is_ready}, 200 if is_ready else 503)


@router.post("/v2/models/{model}/infer", openapi_extra=_TENSORS)
@router.post("/v2/models/{model}/versions/{version}/infer", openapi_extra=_TENSORS)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Run one inference. Leaving cancels it."""
    client = client_of(request)
    client.require_model(model)
    body = await read_body(request)
    asked, form = decode_request(body, request.headers.get(_HEADER_LENGTH), model, version)
    asked = msgspec.structs.replace(asked, **trace_of(request.headers))
    client.count_request()
    response = await _infer_unless_gone(request, asked, client.name)
    if response is None:
        return Response(status_code=499)  # the client is gone; nobody reads this
    encoded, header_length = encode_response(response, form)
    headers = {"X-Job-Id": asked.request_id}
    if header_length is None:
        return Response(encoded, headers=headers, media_type="application/json")
    headers[_HEADER_LENGTH] = str(header_length)
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


def _props(request: Request, model: str, version: str | None) -> ModelProps | None:
    orchestrator = service_of(request).orchestrator
    if model not in orchestrator.models() or not client_of(request).may_use(model):
        raise ModelNotFound(f"no replica has a model {model!r}")
    found = orchestrator.model_props(model)
    if version is not None and found and found[1].versions and version not in found[1].versions:
        raise ModelNotFound(f"model {model!r} has no version {version!r}; there are {', '.join(found[1].versions)}")
    return found[1] if found else None


def _own_version() -> str:
    try:
        return version("worker-adapter")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
