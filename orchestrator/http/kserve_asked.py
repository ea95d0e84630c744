"""What the routes of the v2 protocol share: which model a request names, and whether there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import HTTPException, Request
from starlette.responses import Response

from adapter_api import ModelNotFound, ModelProps
from orchestrator.http.model_paths import Named, named_in
from orchestrator.http.problems import RETRY_SOON
from orchestrator.http.service import client_of, service_of

GET_VERBS = frozenset({"ready", "config", "stats"})
POST_VERBS = frozenset({"infer", "generate", "generate_stream"})


def named_by(request: Request, verbs: frozenset[str]) -> Named:
    """Return what the path names; 405 when it only has a meaning with a verb of the other method."""
    exists = _exists(request)
    named = named_in(request.scope, verbs, exists)
    if not exists(named.model):
        others, method = (POST_VERBS, "POST") if verbs is GET_VERBS else (GET_VERBS, "GET")
        if named_in(request.scope, others, exists).verb:
            raise HTTPException(405, headers={"Allow": method})
    return named


def props_of(request: Request, named: Named) -> ModelProps | None:
    """Return what is known of a model that may be there; raises `ModelNotFound` for others."""
    orchestrator, model, version = service_of(request).orchestrator, named.model, named.version
    if not _exists(request)(model):
        raise ModelNotFound(f"no replica has a model {model!r}")
    found = orchestrator.model_props(model)
    if version is not None and found and found[1].versions and version not in found[1].versions:
        raise ModelNotFound(f"model {model!r} has no version {version!r}; there are {', '.join(found[1].versions)}")
    if version is not None:  # which another pool may have
        found = orchestrator.model_props(model, version) or found
    return found[1] if found else None


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, RETRY_SOON if status == 503 else None, "application/json")


def _exists(request: Request) -> Callable[[str], bool]:
    orchestrator, client = service_of(request).orchestrator, client_of(request)
    return lambda name: client.may_use(name) and orchestrator.may_have(name)
