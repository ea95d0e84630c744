"""Control of models by the OpenAI-compatible face, as Triton's OpenAI frontend has it: for keys of admins."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import InvalidRequest
from adapter_api.bounds import MAX_NAME
from orchestrator.http.model_paths import whole_name
from orchestrator.http.openai import model_entry
from orchestrator.http.service import client_of, service_of

router = APIRouter(tags=["OpenAI-compatible"])

_ROOT = "/v1/models/"


@router.post("/v1/models/{model:path}/load")
async def load(request: Request, model: str) -> Response:
    """Load a model at every replica that may serve it, and describe it once it is ready there; needs an admin's key."""
    name = _model(request, "load")
    await service_of(request).orchestrator.load_model(name)
    return _json(model_entry(name, request))


@router.post("/v1/models/{model:path}/unload")
async def unload(request: Request, model: str) -> Response:
    """Unload a model at every replica that may serve it; what runs may finish. Needs an admin's key.

    It stays listed, as one that is not ready."""
    name = _model(request, "unload")
    await service_of(request).orchestrator.unload_model(name)
    return _json({"status": "success", "model": name})


def _model(request: Request, verb: str) -> str:
    client = client_of(request)
    client.require_admin()
    name = whole_name(request.scope, _ROOT, verb)
    if not name or len(name) > MAX_NAME:
        raise InvalidRequest(f"a model's name has 1 to {MAX_NAME} characters")
    client.require_model(name)
    return name


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
