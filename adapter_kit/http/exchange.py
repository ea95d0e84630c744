"""One request and its answer: sent, sent again where that is harmless, redirected within the origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from dataclasses import replace
from types import TracebackType
from urllib.parse import urljoin, urlsplit

from adapter_api import AdapterError, ConnectionLost, ProtocolViolation
from adapter_kit.http.answer import HttpAnswer
from adapter_kit.http.connection import Connection
from adapter_kit.http.connections import Connections
from adapter_kit.http.deadlines import Deadlines
from adapter_kit.http.origin import Origin, parse_origin
from adapter_kit.http.packing import packed
from adapter_kit.http.received import Received
from adapter_kit.http.request import Request, checked_target, comes_in_pieces

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_DRAIN_BYTES = 64 * 1024
"""Of a redirect's own body, read so that its connection can be used again."""


class Exchange:
    """An asynchronous context manager around one answer. For one use."""

    __slots__ = ("_connection", "_connections", "_deadlines", "_ends", "_is_sent", "_request", "patient")

    def __init__(self, connections: Connections, request: Request) -> None:
        self._connections = connections
        self._request = request
        self._connection: Connection | None = None
        self._deadlines: Deadlines | None = None
        self._ends = 0.0
        self._is_sent = False
        self.patient = False
        """Whether the exchange outlives the cancellation of whoever waits for its headers: see `pending`."""

    async def __aenter__(self) -> HttpAnswer:
        request, connections = self._request, self._connections
        self._ends = asyncio.get_running_loop().time() + request.timeout_s
        if connections.settings.compression is not None:
            request = await packed(request, connections.settings.compression)
        redirects = 0
        while True:
            answer = await self._answered(request)
            try:
                if answer.status not in _REDIRECTS or "location" not in answer.headers:
                    return answer
                redirects += 1
                if redirects > connections.settings.max_redirects:
                    raise ProtocolViolation(f"{connections.where} redirects more than {redirects - 1} times")
                request = _redirected(request, answer, connections.origin)
                await self._drain(answer)
            except BaseException:
                self._leave()
                raise
            self._leave()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def close(self) -> None:
        """Leave, as the end of the `async with` does, for whoever cannot wait; harmless when it was done already."""
        self._leave()

    @property
    def pending(self) -> bool:
        """Whether the request is sent and nobody waits for the headers of its answer any more.

        Only if `patient`. `headers_came` waits for them again; `close` has to follow, and tells the engine to stop if
        that is what closing a connection tells it.
        """
        return self._is_sent and self._connection is not None

    async def headers_came(self) -> None:
        """Wait for the headers; raises `AdapterError` when they do not come."""
        if self._connection is not None:
            await self._connection.head()

    async def _answered(self, request: Request) -> HttpAnswer:
        fresh = False
        while True:
            connection, kept = await self._connections.acquire(self._ends, request, fresh=fresh)
            self._connection = connection
            try:
                received = await self._sent(connection, request)
                return HttpAnswer(connection, received, self._connections.where)
            except BaseException as exc:
                if self.patient and self.pending and isinstance(exc, asyncio.CancelledError):
                    raise
                # A kept connection that the server closed just now. Only what may run twice is sent twice.
                again = kept and connection.silent and isinstance(exc, ConnectionLost) and request.repeatable
                self._leave()
                if not again:
                    raise
                fresh = True

    async def _sent(self, connection: Connection, request: Request) -> Received:
        connections, settings, body = self._connections, self._connections.settings, request.body
        connection.begin(
            Received(
                head_only=request.method == "HEAD", max_head_bytes=settings.max_head_bytes,
                max_headers=settings.max_headers,
            )
        )  # fmt: skip
        self._deadlines = Deadlines(
            connection, connections.where, ends=self._ends, total_s=request.timeout_s, stage=request.stage,
            headers_s=request.headers_s, stall_s=request.stall_s,
        )  # fmt: skip
        if comes_in_pieces(body):
            await _send_in_chunks(connection, self._head(request, "Transfer-Encoding: chunked\r\n"), body)
        else:
            parts = request.buffers
            length = len(body) if type(body) is bytes else sum(memoryview(part).nbytes for part in parts)
            framing = f"Content-Length: {length}\r\n" if length or request.method in _WITH_BODY else ""
            await connection.send(self._head(request, framing), parts)
        self._is_sent = True
        return await connection.head()

    def _head(self, request: Request, framing: str) -> bytes:
        connections = self._connections
        proxy, authority = connections.proxy, connections.authority
        target = request.target
        lines = request.lines
        ours = f"Host: {authority}\r\n{framing}"
        if proxy is not None and not connections.origin.tls:
            target = f"http://{authority}{target}"
            if proxy.authorization is not None:
                ours += f"Proxy-Authorization: {proxy.authorization}\r\n"
        if not request.says("accept-encoding"):
            accepted = "gzip, deflate" if connections.settings.accept_compression else "identity"
            ours += f"Accept-Encoding: {accepted}\r\n"
        return f"{request.method} {target} HTTP/1.1\r\n{ours}{''.join(lines)}\r\n".encode("latin-1")

    async def _drain(self, answer: HttpAnswer) -> None:
        size = 0
        while size <= _DRAIN_BYTES and (data := await answer.next_chunk()):
            size += len(data)

    def _leave(self) -> None:
        """Give the connection back, once."""
        if self._deadlines is not None:
            self._deadlines.stop()
            self._deadlines = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.release(connection)


async def _send_in_chunks(connection: Connection, head: bytes, body: AsyncIterable[bytes]) -> None:
    connection.write(head)
    async for data in body:
        if not data:
            continue  # an empty chunk would end the body
        if not await connection.writable():
            return
        connection.write(b"%x\r\n%b\r\n" % (len(data), data))
    connection.write(b"0\r\n\r\n")


def _redirected(request: Request, answer: HttpAnswer, origin: Origin) -> Request:
    """Return the request that a redirect asks for.

    Raises:
        ProtocolViolation: It leads elsewhere, or would drop the body of a request.
    """
    status = answer.status
    keeps_method = status in (307, 308) or request.method in ("GET", "HEAD")
    if not keeps_method and status != 303:
        raise ProtocolViolation(
            f"{origin} redirects a {request.method} by {status}, which would drop its body: give the URL it has now"
        )
    if keeps_method and isinstance(request.body, AsyncIterable):
        raise ProtocolViolation(f"{origin} redirects a request whose body can be sent once only")
    try:
        parts = urlsplit(urljoin(f"{origin}{request.target}", answer.headers["location"]))
        there = parse_origin(f"{parts.scheme}://{parts.netloc}")
        target = checked_target((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    except (AdapterError, ValueError):
        raise ProtocolViolation(f"{origin} redirects to what is no http:// or https:// URL") from None
    if there != replace(origin, prefix=""):
        raise ProtocolViolation(f"{origin} redirects to {there}: only redirects within the server are followed")
    if status == 303 and request.method != "HEAD":
        lines = [line for line in request.lines if not line.lower().startswith("content-")]
        return replace(request, method="GET", target=target, body=b"", lines=lines)
    return replace(request, target=target)
