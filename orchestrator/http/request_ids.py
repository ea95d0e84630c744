"""An id for every request: the caller's own, if it is a sane one, or else ours. It comes back with every answer."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.http.header import header_of
from orchestrator.observability.request_id import request_id

HEADER = "X-Request-Id"
_HEADER = HEADER.lower().encode()  # as Starlette writes names
SANE = re.compile(r"[A-Za-z0-9._:/+=@,~-]{1,128}")
"""What may go into a log and a header: no space, no quote, no end of line."""


def sent_with(request: Request) -> str | None:
    """Return the id that a request came with, if it is a sane one."""
    return _sane_id(request.scope)


def _sane_id(scope: Scope) -> str | None:
    sent = header_of(scope, _HEADER, "")
    return sent if SANE.fullmatch(sent) else None


class RequestIds:
    """ASGI middleware, the outermost: refusals have an id too, and so has the answer to what broke."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own, which every token would pass: nothing is left to do when the request is over.
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        named = _sane_id(scope) or os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = named

        def send_with_id(message: Message) -> Awaitable[None]:  # no coroutine of its own: each token comes by
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if _HEADER not in dict(headers):
                    message = {**message, "headers": [*headers, (_HEADER, named.encode())]}
            return send(message)

        request_id.set(named)  # for good: a request has a task, and so a context, of its own
        return self._app(scope, receive, send_with_id)
