"""The client of one engine."""

from __future__ import annotations

from adapter_api import DeadlineStage
from adapter_kit.http.answer import WholeAnswer
from adapter_kit.http.connections import Connections
from adapter_kit.http.exchange import Exchange
from adapter_kit.http.origin import parse_origin
from adapter_kit.http.request import (
    Body,
    Headers,
    Request,
    checked_method,
    checked_target,
    comes_in_pieces,
    header_lines,
)
from adapter_kit.http.settings import HttpSettings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

DEFAULT_LIMIT = 64 * 1024 * 1024
"""The most bytes of a whole answer, unless a caller says otherwise."""


class HttpClient:
    """Speaks HTTP/1.1 to one origin. Safe for many tasks of one event loop, which is the one that first uses it.

    Every method raises `AdapterError`s only: `ConnectFailed` when a request provably never left, `InvalidRequest` for
    what a caller gives and HTTP cannot say.

    Args:
        base_url: `http://host:port/prefix` or `https://…`; paths of requests are appended to it.
        settings: How to connect and what is allowed.

    Raises:
        ConfigurationError: A URL, a proxy or a TLS file that cannot be used.
    """

    def __init__(self, base_url: str, *, settings: HttpSettings | None = None) -> None:
        self._prefix = (origin := parse_origin(base_url)).prefix
        self._connections = Connections(origin, settings or HttpSettings())

    @property
    def where(self) -> str:
        """The engine's address, as in `http://h:8000`, for messages."""
        return self._connections.where

    @property
    def open_connections(self) -> int:
        """How many connections there are, those kept for later included."""
        return self._connections.open

    @property
    def idle_connections(self) -> int:
        """How many connections are kept for later."""
        return self._connections.idle

    @property
    def certificate_expires_at(self) -> float | None:
        """When the certificate by which the engine knows us ends, in seconds since the epoch; `None` without one."""
        tls = self._connections.tls
        return None if tls is None else tls.certificate_expires_at

    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        body: Body = b"",
        timeout_s: float,
        headers_s: float | None = None,
        stall_s: float | None = None,
        stage: DeadlineStage = "total",
        repeatable: bool | None = None,
    ) -> Exchange:
        """Send a request and have its answer as it comes: `async with client.stream(…) as answer`.

        Entering waits for the headers. Leaving before the body's end closes the connection, which is how the engine
        learns that nobody wants the rest; leaving after it keeps the connection for the next request.

        Args:
            path: Path and query, percent-encoded, beginning with `/`.
            headers: Names and values; what frames the message is the client's own business and is refused here.
            body: Bytes, or several buffers that are sent one after the other without being joined, or an asynchronous
                iterable, which is sent in chunks.
            timeout_s: For all of it, from here to the end of the body.
            headers_s: For the headers of the answer, from when the request is sent.
            stall_s: For the next bytes of the body, while somebody waits for them.
            stage: What `timeout_s` is called in the error. The other stages are `queue` (for a connection, when
                `max_connections` are in use), `connect`, `first_token` (`headers_s`) and `inter_token` (`stall_s`).
            repeatable: Whether the request may be sent a second time when a kept connection turns out to be closed and
                nothing was answered on it; only for GET, HEAD and OPTIONS if `None`.

        Raises:
            InvalidRequest: At once, for a method, path or header that HTTP cannot carry.
        """
        target = checked_target(self._prefix + path)
        request = Request(
            checked_method(method), target, header_lines(headers), body, timeout_s, headers_s, stall_s, stage,
            (method in _SAFE if repeatable is None else repeatable) and not comes_in_pieces(body),
        )  # fmt: skip
        return Exchange(self._connections, request)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        body: Body = b"",
        timeout_s: float,
        limit: int = DEFAULT_LIMIT,
        stage: DeadlineStage = "total",
        repeatable: bool | None = None,
    ) -> WholeAnswer:
        """Send a request and return its whole answer, whatever its status; arguments as in `stream`.

        Args:
            limit: The most bytes that the body of the answer may have, unpacked.
        """
        exchange = self.stream(
            method, path, headers=headers, body=body, timeout_s=timeout_s, stage=stage, repeatable=repeatable
        )
        async with exchange as answer:
            return WholeAnswer(answer.status, answer.headers, await answer.read(limit))

    async def aclose(self) -> None:
        """Close every connection; exchanges under way end with `AdapterClosed`. May be called often."""
        await self._connections.aclose()
