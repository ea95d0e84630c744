"""Pages for people: plain HTML with nothing from elsewhere. The status page is updated by server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import resources
from time import monotonic
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, StreamingResponse

from orchestrator.http.service import Service, client_of, service_of
from orchestrator.http.sse import named_frame
from orchestrator.rollout import page as rollout_page

router = APIRouter(include_in_schema=False)
docs = APIRouter(include_in_schema=False)
"""What the API is, on every port and without a key. FastAPI's own page loads programs of other hosts."""

UPDATE_S = 1.0
_LIVE_SHOWN = 50
_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/")
async def page() -> HTMLResponse:
    """Return the status page."""
    return _file("status.html")


@docs.get("/docs")
async def describe() -> HTMLResponse:
    """Return the page that describes the API."""
    return _file("docs.html")


@router.get("/rollout")
async def rollout(request: Request) -> HTMLResponse:
    """Return the rollout report as a page."""
    client_of(request).require_watch()
    return _page(rollout_page.render(service_of(request).orchestrator.rollout_report()))


@router.get("/status/events")
async def updates(request: Request) -> StreamingResponse:
    """Stream what the page shows, once a second."""
    client_of(request).require_admin()
    return StreamingResponse(
        _updates(service_of(request)), headers={"Cache-Control": "no-store"}, media_type="text/event-stream"
    )


async def _updates(service: Service) -> AsyncIterator[bytes]:
    while not service.closing.is_set():
        yield named_frame("status", msgspec.json.encode(snapshot(service)))
        with anyio.move_on_after(UPDATE_S):
            await service.closing.wait()


def _file(name: str) -> HTMLResponse:
    return _page(resources.files("orchestrator.http").joinpath(name).read_text(encoding="utf-8"))


def _page(html: str) -> HTMLResponse:
    return HTMLResponse(html, headers={"Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff"})


def snapshot(service: Service) -> dict[str, Any]:
    """Return what the page shows."""
    orchestrator = service.orchestrator
    tasks = orchestrator.live_tasks
    return {
        "ready": orchestrator.ready,
        "pools": orchestrator.pools,
        "tasks": tasks[:_LIVE_SHOWN],
        "tasks_total": len(tasks),
        "errors": orchestrator.recent_errors(10),
        "totals": orchestrator.totals(),
        "at": monotonic(),
    }
