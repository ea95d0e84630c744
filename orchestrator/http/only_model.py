"""The model that a request means which names none: the only one that can be asked so."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from adapter_api import Capability, InvalidRequest, ModelProps
from orchestrator.http.service import client_of, service_of


def only_writer(request: Request) -> str:
    """Return the one model that writes text here; raises `InvalidRequest` where the client has to choose."""
    orchestrator = service_of(request).orchestrator
    return _only(request, lambda name: writes(orchestrator.offer(name)))


def only_embedder(request: Request) -> str:
    """Return the one model that embeds texts here; raises `InvalidRequest` where the client has to choose."""
    return _only(request, service_of(request).orchestrator.embeds)


def writes(found: ModelProps | None) -> bool | None:
    """Return whether a model writes text; `None` where nobody knows."""
    if found is None or not found.capabilities:
        return None
    return bool({Capability.TEXT, Capability.MESSAGES} & (found.capabilities | found.uncertain))


def _only(request: Request, able: Callable[[str], bool | None]) -> str:
    client = client_of(request)
    names = service_of(request).orchestrator.models()
    found = [name for name in names if client.may_use(name) and able(name) is not False]
    if len(found) != 1:
        raise InvalidRequest("'model' is missing: name one of those that GET /v1/models lists")
    return found[0]
