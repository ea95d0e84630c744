"""The session that a request's headers name, for clients that have no place for it in their bodies."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

from adapter_api.bounds import MAX_NAME

AFFINITY = "X-Session-Affinity"
"""As load generators and routers of language models send it."""
_SANE = re.compile(rf"[\x21-\x7e]{{1,{MAX_NAME}}}")

session: ContextVar[str | None] = ContextVar("session", default=None)
"""The session of the request that is being answered; a `session_id` in its body wins."""


class SessionHeaders:
    """ASGI middleware: sets `session` from the first of the headers that is there and names one.

    What is too long or no plain text is passed over: it only decides where work runs.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = [name.lower().encode() for name in names]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            session.set(self._named(scope))  # for good: a request has a task, and so a context, of its own
        return self._app(scope, receive, send)

    def _named(self, scope: Scope) -> str | None:
        sent: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in self._names:
                sent.setdefault(name, value)
        if not sent:
            return None
        values = (sent.get(name, b"").decode("latin-1").strip() for name in self._names)
        return next((value for value in values if _SANE.fullmatch(value)), None)
