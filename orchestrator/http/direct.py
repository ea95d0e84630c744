"""A short way to routes whose path is one fixed text: found in a table, where the router tries one route after another
and goes through as many hands again before it calls what it has found."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

Handler = Callable[[Request, Exception], Awaitable[Response]]
_Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """ASGI middleware, right before the framework. Everything that is not in its table is the router's.

    Args:
        app: The framework's application.
        routes: All there are. Those of which the table is made have no part in braces, take the request and nothing
            else, and depend on nothing.
        handlers: What becomes of the exceptions that they raise, by class; the nearest base counts.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[Route], handlers: Mapping[type[Exception], Handler]) -> None:
        self._app = app
        self._handlers = handlers
        self._endpoints: dict[tuple[str, str], _Endpoint] = {}
        for route in routes:
            if "{" not in route.path and _takes_the_request_only(route):
                for method in route.methods or ():
                    self._endpoints.setdefault((method, route.path), route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        endpoint = self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app  # as the framework would say
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except Exception as exc:
            handler = self._handler_of(type(exc))
            if handler is None:
                raise
            response = await handler(request, exc)
        await response(scope, receive, send)

    def _handler_of(self, kind: type[Exception]) -> Handler | None:
        return next((self._handlers[base] for base in kind.__mro__ if base in self._handlers), None)


def _takes_the_request_only(route: Route) -> bool:
    parameters = inspect.signature(route.endpoint).parameters
    dependencies: Any = getattr(route, "dependencies", ())  # FastAPI's routes have them
    return list(parameters) == ["request"] and not dependencies and inspect.iscoroutinefunction(route.endpoint)
