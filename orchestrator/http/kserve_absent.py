"""What Triton has and a host has not, told as that: memory, traces and log are each replica's own."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import Unsupported
from orchestrator.http.kserve_asked import json_answer

router = APIRouter(tags=["v2 inference protocol"])


@router.get("/v2/systemsharedmemory/status")
@router.get("/v2/systemsharedmemory/region/{region}/status")
@router.get("/v2/cudasharedmemory/status")
@router.get("/v2/cudasharedmemory/region/{region}/status")
async def regions(request: Request, region: str | None = None) -> Response:
    """List the regions of shared memory: there are none, for replicas may be on other machines."""
    return json_answer([])


@router.post("/v2/systemsharedmemory/unregister")
@router.post("/v2/systemsharedmemory/region/{region}/unregister")
@router.post("/v2/cudasharedmemory/unregister")
@router.post("/v2/cudasharedmemory/region/{region}/unregister")
async def unregister(request: Request, region: str | None = None) -> Response:
    """Forget a region of shared memory, or all of them: there are none."""
    return Response(media_type="application/json")


@router.post("/v2/systemsharedmemory/region/{region}/register")
@router.post("/v2/cudasharedmemory/region/{region}/register")
async def register(request: Request, region: str) -> Response:
    """Refuse a region of shared memory: replicas may be on other machines."""
    raise Unsupported("a host has no shared memory with its clients: send tensors in the request, best as binary data")


@router.get("/v2/trace/setting")
@router.post("/v2/trace/setting")
@router.get("/v2/models/{model:path}/trace/setting")
@router.post("/v2/models/{model:path}/trace/setting")
async def trace_settings(request: Request, model: str | None = None) -> Response:
    """Refuse to tell or change trace settings: each engine has its own, and the host traces by its settings."""
    raise Unsupported("a host has no trace settings: ask each engine for its own; the host's are [server.tracing]")


@router.get("/v2/logging")
@router.post("/v2/logging")
async def log_settings(request: Request) -> Response:
    """Refuse to tell or change log settings: each engine has its own."""
    raise Unsupported("a host has no log settings that can be changed while it runs: ask each engine for its own")
