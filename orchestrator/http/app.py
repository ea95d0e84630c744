"""The application: which routes on which port, who is let in, and what becomes of errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Mapping, Sequence

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter_api import AdapterError
from orchestrator.http import (
    embeddings,
    kserve,
    kserve_absent,
    kserve_generate,
    kserve_models,
    kserve_repository,
    openai,
    openai_repository,
    ops,
    page,
    problems,
    responses,
    tasks,
)
from orchestrator.http.bugs import Bugs
from orchestrator.http.direct import DirectRoutes, Handler
from orchestrator.http.header import header_of
from orchestrator.http.limits import BodyLimits
from orchestrator.http.origins import ListedOrigins, asks_for_a_page
from orchestrator.http.pending import HostIsFull
from orchestrator.http.problems import Refused
from orchestrator.http.request_ids import RequestIds
from orchestrator.http.schema import describe
from orchestrator.http.service import Service, client_of, service_of
from orchestrator.http.session_header import AFFINITY, SessionHeaders

_log = logging.getLogger("orchestrator.http")

_LONGEST_ORIGIN = 200
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})

V2: Sequence[APIRouter] = (
    kserve.router, kserve_generate.router, kserve_repository.router, kserve_absent.router, kserve_models.router,
)  # fmt: skip
FACES: Sequence[APIRouter] = (
    ops.probes,
    page.docs,
    tasks.router,
    openai.router,
    openai_repository.router,
    responses.router,
    embeddings.router,
    *V2,
)
"""What clients call."""
ADMIN: Sequence[APIRouter] = (ops.probes, page.docs, ops.router, page.router)
"""What those who run the host look at."""


def create_app(service: Service, routers: Sequence[APIRouter]) -> ASGIApp:
    """Return the application that serves these routers."""
    # Around the framework, not within it: what goes the short way is then spared its layers.
    handlers: dict[type[Exception], Handler] = {
        AdapterError: _on_error,
        Refused: _on_error,
        HTTPException: _on_http_error,
        RequestValidationError: _on_http_error,
        RecursionError: _on_recursion,
        ClientDisconnect: _on_disconnect,
    }
    faces = _faces(service, routers, handlers)
    app: ASGIApp = DirectRoutes(faces, faces.state.routes, handlers)
    named = service.settings.session_header
    app = SessionHeaders(app, (AFFINITY,) if named is None else (named, AFFINITY))
    app = _LetIn(app, service)
    app = BodyLimits(app, service.settings.limits, service.pending, service.turned_away)
    app = Bugs(app, _on_bug)
    if service.settings.cors_origins:
        app = ListedOrigins(app, service.settings.cors_origins)
    return RequestIds(app)


def _faces(service: Service, routers: Sequence[APIRouter], handlers: Mapping[type[Exception], Handler]) -> FastAPI:
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
    app = FastAPI(
        # As they are: of a router that is included FastAPI makes every route anew, with the first request.
        routes=[*routes],
        title="worker-adapter orchestrator",
        description="Tasks over server-sent events, an OpenAI-compatible API, and the v2 inference protocol.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to a URL made of the Host header, which behind a proxy is not the client's
    )
    app.state.service = service
    app.state.routes = routes
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _on_bug)
    return app


class _LetIn:
    """ASGI middleware: finds out who asks before anything is read, and takes HEAD wherever GET is taken."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._origins = frozenset(service.settings.cors_origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        try:
            self._service.guard.require_known_host(connection)
            self._require_own_page(scope)
            scope.setdefault("state", {}).update(
                client=self._service.guard.client_of(connection), service=self._service
            )
        except Refused as exc:
            self._service.turned_away.tell(exc, connection)
            return problems.answer(connection, exc.error)(scope, receive, send)
        if scope["method"] == "HEAD":  # the server sends the head only
            scope = {**scope, "method": "GET"}
        return self._app(scope, receive, send)

    def _require_own_page(self, scope: Scope) -> None:
        """Refuse what a page of another origin makes its reader's browser send.

        Browsers send simple POSTs without asking first, with the password they know, and only keep the answer from the
        page; by then a pool would be drained. Programs send no Origin. Before others they ask whether they may, without
        a key: that is answered the same, for those who wonder why their page cannot call.
        """
        is_harmless = scope["method"] in _HARMLESS and not asks_for_a_page(scope)
        origin = None if is_harmless else header_of(scope, b"origin")
        if origin is None or "*" in self._origins or origin in self._origins:
            return
        if origin.partition("://")[2] != header_of(scope, b"host"):
            raise Refused(
                "forbidden",
                "pages of this origin may not call: server.cors_origins lists those that may",
                untold=f"pages of {origin[:_LONGEST_ORIGIN]} may not call: server.cors_origins lists those that may",
            )


async def _on_error(request: Request, exc: Exception) -> Response:
    error, service = problems.error_of(exc), service_of(request)
    if error.code == "rate_limited":
        service.orchestrator.tell_rate_limited(error, client_of(request).name)
    if isinstance(exc, Refused | HostIsFull):
        service.turned_away.tell(exc, request, client_of(request).name)
    return problems.answer(request, error)


async def _on_http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 400
    path, headers = request.scope["path"], dict(getattr(exc, "headers", None) or {})
    if status == 404:
        hint = _hint(request)
        refused = Refused("not_found", f"there is nothing at {path}; {hint}")
    elif status == 405:
        allowed = _methods_of(request) | set(filter(None, headers.get("Allow", "").split(", ")))
        headers["Allow"] = ", ".join(sorted(allowed))
        refused = Refused(
            "method_not_allowed", f"{path} does not take {request.method[:32]}; it takes {headers['Allow']}"
        )
    else:
        refused = Refused("invalid_request", "the request is malformed")
    answer = problems.answer(request, refused.error)
    answer.headers.update(headers)  # which methods it does take, for one
    return answer


def _hint(request: Request) -> str:
    """Return what may have been meant by a path that there is not."""
    # As it was sent: what begins with two slashes is an address without its scheme to others.
    sent = request.scope.get("raw_path", b"").decode("latin-1") or request.scope["path"]
    if sent.endswith("/"):
        return "leave out the slash at its end, or look at /docs"
    path = re.sub("/{2,}", "/", sent)
    likely = [path, path.removeprefix("/v1"), f"/v1{path}", re.sub("^/openai", "", path)]
    routes = request.app.state.routes
    for each in likely:
        if each != sent and any("{" not in route.path and route.path == each for route in routes):
            return f"{each} may be meant: look at the client's base URL, which ends in /v1 for OpenAI's"
    return "/docs lists what there is"


def _methods_of(request: Request) -> set[str]:
    """Return what is taken at the request's path, by any of its routes."""
    found: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return found | ({"HEAD"} if "GET" in found else set())


async def _on_recursion(request: Request, exc: Exception) -> Response:
    """Our own calls are not deep: what was sent is."""
    return problems.answer(request, Refused("invalid_request", "the request is nested too deeply").error)


async def _on_disconnect(request: Request, exc: Exception) -> Response:
    return Response(status_code=499)  # it left before its request was whole; nobody reads this


async def _on_bug(request: Request, exc: Exception) -> Response:
    _log.error("%s %r broke with %s", request.method, request.scope["path"], type(exc).__name__)
    return problems.answer(request, problems.error_of(exc))
