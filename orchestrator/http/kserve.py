"""The v2 inference protocol (KServe's, Triton's) over REST: the server, and inference on tensors."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import InferRequest, InferResponse
from orchestrator.http import bodies
from orchestrator.http.kserve_asked import POST_VERBS, json_answer, named_by, props_of
from orchestrator.http.kserve_codec import decode_request, encode_response
from orchestrator.http.ops import probes
from orchestrator.http.presence import WhileThere
from orchestrator.http.reading import trace_of
from orchestrator.http.service import client_of, read_body, service_of
from orchestrator.http.session_header import session
from orchestrator.http.version import own_version

router = APIRouter(tags=["v2 inference protocol"])

_EXTENSIONS = (
    "classification", "sequence", "schedule_policy", "model_configuration", "binary_tensor_data", "parameters",
    "generate",
)  # fmt: skip
_HEADER_LENGTH = "Inference-Header-Content-Length"


@probes.get("/v2/health/live")
async def live() -> Response:
    """Say that the process serves."""
    return json_answer({"live": True})


@probes.get("/v2/health")
@probes.get("/v2/health/ready")
async def ready(request: Request) -> Response:
    """Say whether a pool takes work: 200, else 503."""
    is_ready = service_of(request).orchestrator.ready
    return json_answer({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/v2")
async def server(request: Request) -> Response:
    """Name the server and the extensions that the client may use."""
    client = client_of(request)
    extensions = list(_EXTENSIONS)
    if client.may_watch:
        extensions.append("statistics")
    if client.is_admin:
        extensions += ["model_repository", "model_repository(unload_dependents)"]
    return json_answer({"name": "worker-adapter", "version": own_version(), "extensions": extensions})


@router.post("/v2/models/{model:path}/infer", openapi_extra=bodies.INFERENCE)
@router.post("/v2/models/{model:path}/versions/{version}/infer", openapi_extra=bodies.INFERENCE)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Run one inference. Leaving cancels it."""
    service, client = service_of(request), client_of(request)
    named = named_by(request, POST_VERBS)
    client.require_model(named.model)
    props_of(request, named)
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
    with WhileThere(request.receive):
        response = await service_of(request).orchestrator.infer(asked, owner=owner, session_id=session.get())
    return response
