"""The short way to routes of one fixed path, and what it leaves to the framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from orchestrator.http.direct import DirectRoutes

pytestmark = pytest.mark.anyio
no_spec = "how requests find their routes; what the routes promise is tested where they are"


async def framework(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("framework")(scope, receive, send)


async def answer_of(routes: DirectRoutes, method: str, path: str, **more: Any) -> str:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await routes({"type": "http", "method": method, "path": path, "headers": [], **more}, receive, send)
    return "".join(message.get("body", b"").decode() for message in sent)


def routes_to(
    endpoint: Callable[..., Awaitable[Response]], path: str = "/here", handlers: Any = None, **options: Any
) -> DirectRoutes:
    router = APIRouter()
    router.post(path, **options)(endpoint)
    return DirectRoutes(framework, [each for each in router.routes if isinstance(each, Route)], handlers or {})


async def greet(request: Request) -> Response:
    return PlainTextResponse(f"direct {request.method}")


async def test_a_route_of_one_fixed_path_is_called_without_the_framework() -> None:
    assert await answer_of(routes_to(greet), "POST", "/here") == "direct POST"


@pytest.mark.parametrize(
    "method, path, more", [("GET", "/here", {}), ("POST", "/here/", {}), ("POST", "/here", {"root_path": "/v"})]
)
async def test_another_method_or_path_is_the_framework_s(method: str, path: str, more: dict[str, str]) -> None:
    assert await answer_of(routes_to(greet), method, path, **more) == "framework"


async def test_what_takes_a_part_of_the_path_or_depends_on_something_is_the_framework_s() -> None:
    async def named(request: Request, name: str) -> Response:
        raise AssertionError

    async def nothing() -> None:
        raise AssertionError

    with_part = routes_to(named, "/{name}")
    dependent = routes_to(greet, dependencies=[Depends(nothing)])

    assert await answer_of(with_part, "POST", "/here") == "framework"
    assert await answer_of(with_part, "POST", "/{name}") == "framework"
    assert await answer_of(dependent, "POST", "/here") == "framework"


async def test_the_handler_of_the_nearest_class_answers_an_exception() -> None:
    async def broken(request: Request) -> Response:
        raise FileNotFoundError("gone")

    async def on_os_error(request: Request, exc: Exception) -> Response:
        return PlainTextResponse(f"handled {exc}")

    async def on_lookup(request: Request, exc: Exception) -> Response:
        raise AssertionError

    routes = routes_to(broken, handlers={LookupError: on_lookup, OSError: on_os_error})

    assert await answer_of(routes, "POST", "/here") == "handled gone"


async def test_an_exception_without_a_handler_goes_on_its_way() -> None:
    async def broken(request: Request) -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await answer_of(routes_to(broken), "POST", "/here")
