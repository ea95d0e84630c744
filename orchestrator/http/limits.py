"""Bounds on request bodies: how large, and how long they may take to arrive."""

from __future__ import annotations

from time import perf_counter

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.config import LimitSettings
from orchestrator.http.problems import Refused
from orchestrator.http.reading import require_size, whole_number


class BodyLimits:
    """ASGI middleware. What is too large or too slow raises `Refused` where the body is read."""

    def __init__(self, app: ASGIApp, settings: LimitSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = _Bounded(receive, self._settings, Headers(scope=scope).get("content-length"))
        await self._app(scope, receive, send)


class _Bounded:
    def __init__(self, receive: Receive, settings: LimitSettings, declared: str | None) -> None:
        self._receive = receive
        self._settings = settings
        self._declared = whole_number(declared or "") or 0
        self._got = 0
        self._complete = False
        self._deadline = perf_counter() + settings.body_timeout_s

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        require_size(self._declared, self._settings.max_body_bytes)
        message: Message | None = None
        with anyio.move_on_after(max(0.0, self._deadline - perf_counter())):
            message = await self._receive()
        if message is None:
            raise Refused(
                "request_timeout", f"the request's body did not arrive within {self._settings.body_timeout_s:g} s"
            )
        self._got += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        require_size(self._got, self._settings.max_body_bytes)
        return message
