"""Triton's control of models over REST, for keys of admins: the host has its engines load and unload them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import InvalidRequest
from adapter_api.bounds import MAX_NAME
from orchestrator.http import bodies
from orchestrator.http.model_paths import REPOSITORY, whole_name
from orchestrator.http.reading import parse_object
from orchestrator.http.service import client_of, read_body, service_of

router = APIRouter(tags=["v2 inference protocol"])

_FILE = "file:"


@router.post("/v2/repository/models/{model:path}/load", openapi_extra=bodies.LOAD)
async def load(request: Request, model: str) -> Response:
    """Load a model at every replica that may serve it, and answer once it is ready there; needs an admin's key."""
    client_of(request).require_admin()
    given = await _parameters(request)
    config, files = given.pop("config", None), {}
    if config is not None and not isinstance(config, str):
        raise InvalidRequest("'config' must be a text: a configuration in JSON")
    for name in [name for name in given if name.startswith(_FILE)]:
        files[name.removeprefix(_FILE)] = _file(name, given.pop(name))
    _require_none(given, "config, file:<path>")
    if files and config is None:
        raise InvalidRequest("files of a model need its configuration as well: give 'config'")
    await service_of(request).orchestrator.load_model(_model(request, "load"), config=config, files=files)
    return Response(media_type="application/json")


@router.post("/v2/repository/models/{model:path}/unload", openapi_extra=bodies.UNLOAD)
async def unload(request: Request, model: str) -> Response:
    """Unload a model at every replica that may serve it; what runs may finish. Needs an admin's key."""
    client_of(request).require_admin()
    given = await _parameters(request)
    dependents = given.pop("unload_dependents", False)
    if not isinstance(dependents, bool):
        raise InvalidRequest("'unload_dependents' must be true or false")
    _require_none(given, "unload_dependents")
    await service_of(request).orchestrator.unload_model(_model(request, "unload"), dependents=dependents)
    return Response(media_type="application/json")


def _model(request: Request, verb: str) -> str:
    model = whole_name(request.scope, REPOSITORY, verb)
    if not model or len(model) > MAX_NAME:
        raise InvalidRequest(f"a model's name has 1 to {MAX_NAME} characters")
    client_of(request).require_model(model)
    return model


async def _parameters(request: Request) -> dict[str, Any]:
    parameters: object = await read_body(request, lambda body: parse_object(body).get("parameters") if body else {})
    if not isinstance(parameters, dict | None):
        raise InvalidRequest("'parameters' must be an object")
    return dict(parameters or {})


def _file(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise InvalidRequest(f"{name[:MAX_NAME]!r} must be a file in base64") from exc


def _require_none(left: dict[str, Any], known: str) -> None:
    for name in left:
        raise InvalidRequest(f"unknown parameter {name[:MAX_NAME]!r}; there are {known}")
