"""Bounds on requests: how many headers, how large a body, how long it may take, how much of all bodies is held."""

from __future__ import annotations

import asyncio
from time import perf_counter

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.config import LimitSettings
from orchestrator.http import problems
from orchestrator.http.header import header_of
from orchestrator.http.pending import Pending, Share
from orchestrator.http.presence import EXTENSION, Presence
from orchestrator.http.problems import RETRY_AFTER_S, Refused
from orchestrator.http.reading import require_size, whole_number
from orchestrator.http.turned_away import TurnedAway

MAX_HEADERS = 256
"""Each look at one goes through all of them."""
ONE_TOO_MANY = "one_too_many"
"""In the state of a request that came while as many as may be were there; set by the server."""
HEADERS_TOO_LARGE = "headers_too_large"
"""In the state of a request whose headers have more bytes than they may; set by the server, which counts them."""
_TOO_MANY = Refused(
    "overloaded",
    "as many connections are open as may be (server.limits.max_connections); try again later",
    retry_after_s=RETRY_AFTER_S,
)


def headers_too_large(limit: int) -> Refused:
    """Return what is said of headers, or trailers, of more than `limit` bytes."""
    return Refused(
        "headers_too_many",
        f"the headers have more than {limit} bytes (server.limits.max_header_bytes); send fewer or shorter ones",
    )


class BodyLimits:
    """ASGI middleware. What is too large or too slow raises `Refused` where the body is read."""

    def __init__(self, app: ASGIApp, settings: LimitSettings, pending: Pending, turned_away: TurnedAway) -> None:
        self._app = app
        self._turned_away = turned_away
        self._settings = settings
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refused := self._refusal(scope)) is not None:
            connection = HTTPConnection(scope)
            self._turned_away.tell(refused, connection)
            await problems.answer(connection, refused.error)(scope, receive, send)
            return
        share = Share(self._pending)
        scope.setdefault("state", {})["share"] = share
        declared = header_of(scope, b"content-length", "")
        presence = scope.get("extensions", {}).get(EXTENSION, {}).get("client")
        try:
            await self._app(scope, _Bounded(receive, self._settings, share, declared, presence), send)
        finally:
            share.release()

    def _refusal(self, scope: Scope) -> Refused | None:
        """Return why a request is refused by what is known of it before its body."""
        if len(scope["headers"]) > MAX_HEADERS:
            return Refused("headers_too_many", f"the request has more than {MAX_HEADERS} headers; send fewer")
        state = scope.get("state", {})
        if HEADERS_TOO_LARGE in state:
            return headers_too_large(self._settings.max_header_bytes)
        return _TOO_MANY if ONE_TOO_MANY in state else None


class _Bounded:
    def __init__(
        self, receive: Receive, settings: LimitSettings, share: Share, declared: str, presence: Presence | None
    ) -> None:
        self._receive = receive
        self._presence = presence
        self._settings = settings
        self._share = share
        self._declared = whole_number(declared) or 0
        self._got = 0
        self._complete = False
        self._deadline = perf_counter() + settings.body_timeout_s

    @property
    def presence(self) -> Presence | None:
        """What tells when the client leaves; not before its body has come whole, which somebody has to wait for."""
        return self._presence if self._complete else None

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        require_size(self._declared, self._settings.max_body_bytes)
        message = await self._next()
        size = len(message.get("body", b""))
        self._got += size
        self._complete = not message.get("more_body", False)
        require_size(self._got, self._settings.max_body_bytes)
        self._share.take(size)
        return message

    async def _next(self) -> Message:
        if self._presence is not None and self._presence.has_message:  # as nearly always: most bodies are small
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline - perf_counter())):
                return await self._receive()
        except TimeoutError:
            raise Refused(
                "request_timeout",
                f"the request's body did not arrive within {self._settings.body_timeout_s:g} s "
                "(server.limits.body_timeout_s)",
            ) from None
