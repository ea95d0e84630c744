"""An id for every request: the caller's own, if it is a sane one, or else ours. It comes back with every answer."""

from __future__ import annotations

import os
import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.http.direct import Handler
from orchestrator.observability.request_id import request_id

HEADER = "X-Request-Id"
_HEADER = HEADER.lower().encode()  # as Starlette writes names
SANE = re.compile(r"[A-Za-z0-9._:/+=@,~-]{1,128}")
"""What may go into a log and a header: no space, no quote, no end of line."""


def sent_with(request: Request) -> str | None:
    """Return the id that a request came with, if it is a sane one."""
    sent = request.headers.get(HEADER, "")
    return sent if SANE.fullmatch(sent) else None


class RequestIds:
    """ASGI middleware, the outermost: refusals have an id too, and so has the answer to what broke, which `on_bug`
    makes."""

    def __init__(self, app: ASGIApp, on_bug: Handler) -> None:
        self._app = app
        self._on_bug = on_bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER, "")
        named = asked if SANE.fullmatch(asked) else os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = named
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = message["headers"]
                if not any(name == _HEADER for name, _ in headers):
                    message = {**message, "headers": [*headers, (_HEADER, named.encode())]}
            await send(message)

        token = request_id.set(named)
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as exc:
            if not started:
                await (await self._on_bug(Request(scope), exc))(scope, receive, send_with_id)
            raise  # the server's log has where it broke
        finally:
            request_id.reset(token)
