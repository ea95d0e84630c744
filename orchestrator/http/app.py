"""The application: which routes on which port, who is let in, and what becomes of errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter_api import AdapterError
from orchestrator.http import kserve, openai, ops, page, problems, tasks
from orchestrator.http.limits import BodyLimits
from orchestrator.http.problems import Refused
from orchestrator.http.service import Service

_log = logging.getLogger("orchestrator.http")

FACES: Sequence[APIRouter] = (ops.probes, tasks.router, openai.router, kserve.router)
"""What clients call."""
ADMIN: Sequence[APIRouter] = (ops.probes, ops.router, page.router)
"""What those who run the host look at."""


def create_app(service: Service, routers: Sequence[APIRouter]) -> FastAPI:
    """Return the application that serves these routers."""
    app = FastAPI(
        title="worker-adapter orchestrator",
        description="Tasks over server-sent events, an OpenAI-compatible API, and the v2 inference protocol.",
        redoc_url=None,
    )
    app.state.service = service
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(AdapterError, _on_error)
    app.add_exception_handler(Refused, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(_LetIn, service=service)
    app.add_middleware(BodyLimits, settings=service.settings.limits)
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-API-Key", "traceparent"],
            expose_headers=["X-Job-Id", "X-Queue-Position", "X-Predicted-Start-Ms", "Retry-After"],
        )
    return app


class _LetIn:
    """ASGI middleware: finds out who asks before anything is read, and keeps browsers from guessing types."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            connection.state.client = self._service.guard.client_of(connection)
        except Refused as exc:
            await problems.answer(connection, exc.error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _on_error(request: Request, exc: Exception) -> Response:
    return problems.answer(request, problems.error_of(exc))


async def _on_http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 400
    if status == 404:
        refused = Refused("not_found", f"there is nothing at {request.url.path}; /docs lists what there is")
    elif status == 405:
        refused = Refused("method_not_allowed", f"{request.url.path} does not take {request.method}")
    else:
        refused = Refused("invalid_request", "the request is malformed")
    return problems.answer(request, refused.error)


async def _on_bug(request: Request, exc: Exception) -> Response:
    _log.error("%s %s broke with %s", request.method, request.url.path, type(exc).__name__)
    return problems.answer(request, problems.error_of(exc))
