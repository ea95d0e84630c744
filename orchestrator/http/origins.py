"""Pages of other origins that may call, and what they may read of an answer."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.http.header import header_of


class ListedOrigins(CORSMiddleware):
    """ASGI middleware: answers browsers that ask whether a page of `origins` may call. Those of other pages are passed
    on to who refuses what they send, and tells of it."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # SDKs send many of their own, and more with each version
            expose_headers=[
                "X-Request-Id",
                "X-Job-Id",
                "X-Queue-Position",
                "X-Predicted-Start-Ms",
                "X-Ignored-Fields",
                "Retry-After",
                "x-should-retry",
                "Inference-Header-Content-Length",  # without it no page can tell JSON from tensors
            ],
            allow_private_network=True,  # a page from elsewhere asks whether it may call a machine of this network
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            if asks_for_a_page(scope) and not self.is_allowed_origin(header_of(scope, b"origin", "")):
                await self.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def asks_for_a_page(scope: Scope) -> bool:
    """Whether a browser asks whether a page may call (https://fetch.spec.whatwg.org/#cors-preflight-request)."""
    named = (b"origin", b"access-control-request-method")
    return scope["method"] == "OPTIONS" and all(header_of(scope, name) is not None for name in named)
