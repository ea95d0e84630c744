"""The client of one engine: its connections, and the exchanges that callers have on them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from adapter_api import AdapterClosed, ConfigurationError, DeadlineExceeded, DeadlineStage
from adapter_kit.http.answer import WholeAnswer
from adapter_kit.http.connecting import connect
from adapter_kit.http.connection import Connection
from adapter_kit.http.exchange import Body, Exchange, Request
from adapter_kit.http.origin import parse_origin
from adapter_kit.http.pool import Pool
from adapter_kit.http.proxies import proxy_for
from adapter_kit.http.request_head import Headers, checked_method, checked_target, header_lines
from adapter_kit.http.settings import HttpSettings
from adapter_kit.tls import TlsMaterial

if TYPE_CHECKING:
    import ssl

_SCRATCH_BYTES = 128 * 1024
_CLOSE_S = 0.25
_KEEP_ALIVE = re.compile(r"timeout\s*=\s*(\d{1,6})")
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
        self.settings = settings or HttpSettings()
        self.origin = parse_origin(base_url)
        self.proxy = proxy_for(self.origin, self.settings)
        self._where = str(self.origin)
        needs_tls = self.origin.tls or (self.proxy is not None and self.proxy.origin.tls)
        self._tls = TlsMaterial(self.settings.tls) if needs_tls else None
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._open: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._closed = False

    @property
    def where(self) -> str:
        """The engine's address, as in `http://h:8000`, for messages."""
        return self._where

    @property
    def certificate_expires_at(self) -> float | None:
        """When the certificate by which the engine knows us ends, in seconds since the epoch; `None` without one."""
        return None if self._tls is None else self._tls.certificate_expires_at

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
        target = checked_target(self.origin.prefix + path)
        request = Request(
            checked_method(method), target, header_lines(headers), body, timeout_s, headers_s, stall_s, stage,
            (method in _SAFE if repeatable is None else repeatable) and not isinstance(body, AsyncIterable),
        )  # fmt: skip
        return Exchange(self, request)

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
        self._closed = True
        if self._pool is not None:
            self._pool.clear()
        for connection in tuple(self._open):
            connection.abort(AdapterClosed("the client was closed during the call", retryable=True))
        if self._open:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._all_closed.wait()
            except TimeoutError:
                pass  # a peer that does not answer TLS's goodbye: its socket closes by itself

    # For exchanges.

    async def acquire(self, ends: float, request: Request, *, fresh: bool) -> tuple[Connection, bool]:
        """Return a connection and whether it served before; `release` has to follow.

        Args:
            fresh: Make a new one, even where one is kept.
        """
        pool = self._usable()
        stage: DeadlineStage = "queue"
        try:
            if pool.full:
                async with asyncio.timeout_at(ends):
                    await pool.enter()
            else:
                await pool.enter()
            try:
                self._usable()
                if not fresh and (kept := pool.kept()) is not None:
                    return kept, True
                stage = request.stage
                async with asyncio.timeout_at(ends):
                    connection = await pool.make()
            except BaseException:
                pool.leave()
                raise
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self._where}: no connection within {request.timeout_s:g} s"
                + (f", as {self.settings.max_connections} are in use (`max_connections`)" if stage == "queue" else ""),
                stage=stage,
            ) from None
        if self._closed:
            pool.release(connection)
            raise AdapterClosed("the client was closed during the call", retryable=True)
        return connection, False

    def release(self, connection: Connection) -> None:
        """Take a connection back, whatever became of its exchange."""
        assert self._pool is not None
        received = connection.received
        said = None if received is None else received.headers.get("keep-alive")
        if said is not None and (found := _KEEP_ALIVE.search(said)):
            # A little less than the server: what it closes must not meet what we send.
            connection.keep_s = max(int(found[1]) - 1.0, 0.5)
        if self._closed:
            connection.received = None
        self._pool.release(connection)

    def _usable(self) -> Pool:
        if self._closed:
            raise AdapterClosed("the client is closed")
        loop = asyncio.get_running_loop()
        if self._pool is None:
            settings = self.settings
            self._loop = loop
            self._pool = Pool(
                self._connect, limit=settings.max_connections, keep_idle=settings.keep_idle,
                keep_idle_s=settings.keep_idle_s,
            )  # fmt: skip
        elif self._loop is not loop:
            raise ConfigurationError("an HTTP client belongs to the event loop that first used it; make one per loop")
        if self._tls is not None and self._tls.refresh():
            # New certificates: exchanges under way finish on their connections, new ones use the new files.
            self._pool.renew()
        return self._pool

    async def _connect(self) -> Connection:
        limit_s = self.settings.connect_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await connect(
                    self.origin, self.proxy, self._context(), self.settings.tls.server_name, self._connection
                )
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self._where}: no connection within {limit_s:g} s; is the server up, and is the way to it open?",
                stage="connect",
            ) from None

    def _context(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        context = self._tls.context
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _connection(self) -> Connection:
        connection = Connection(self._where, self._scratch, self.settings.window_bytes, self._lost)
        self._open.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._pool is not None:
            self._pool.forget(connection)
        if not self._open:
            self._all_closed.set()
