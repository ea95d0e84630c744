"""What becomes of a request that broke something of ours."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.http.direct import Handler


class Bugs:
    """ASGI middleware: answers what nobody expected by `on_bug`, unless an answer is on its way already, and lets the
    server's log have where it broke. Within what adds headers to answers, for this one needs them too."""

    def __init__(self, app: ASGIApp, on_bug: Handler) -> None:
        self._app = app
        self._on_bug = on_bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        def noticing(message: Message) -> Awaitable[None]:  # no coroutine of its own: each token comes by
            nonlocal started
            started = True
            return send(message)

        try:
            await self._app(scope, receive, noticing)
        except Exception as exc:
            if scope["type"] == "http" and not started:
                await (await self._on_bug(Request(scope), exc))(scope, receive, send)
            raise
