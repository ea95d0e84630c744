"""The connections of a client: made, kept, counted, and closed; with the TLS files and the proxy of the day."""

from __future__ import annotations

import asyncio
import re
import ssl

from adapter_api import AdapterClosed, ConfigurationError, DeadlineExceeded, DeadlineStage
from adapter_kit.http.connecting import connect
from adapter_kit.http.connection import Connection
from adapter_kit.http.origin import Origin
from adapter_kit.http.pool import Pool
from adapter_kit.http.proxies import proxy_for
from adapter_kit.http.request import Request
from adapter_kit.http.settings import HttpSettings
from adapter_kit.tls import TlsMaterial

_SCRATCH_BYTES = 128 * 1024
_CLOSE_S = 0.25
_KEEP_ALIVE = re.compile(r"timeout\s*=\s*(\d{1,6})")


class Connections:
    """Connections to one origin, in the event loop that first asks for one.

    Raises:
        ConfigurationError: A proxy or a TLS file that cannot be used.
    """

    def __init__(self, origin: Origin, settings: HttpSettings) -> None:
        self.origin = origin
        self.settings = settings
        self.proxy = proxy_for(origin, settings)
        self.where = str(origin)
        """The engine's address, for messages."""
        self.authority = origin.authority
        """What the Host header says."""
        needs_tls = origin.tls or (self.proxy is not None and self.proxy.origin.tls)
        self.tls = TlsMaterial(settings.tls) if needs_tls else None
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._open: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._closed = False

    @property
    def open(self) -> int:
        """How many connections there are, kept ones included."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many connections are kept for later."""
        return 0 if self._pool is None else self._pool.idle

    async def aclose(self) -> None:
        """Close every connection; exchanges under way end with `AdapterClosed`."""
        self._closed = True
        if self._pool is not None:
            self._pool.clear()
        for connection in tuple(self._open):
            connection.abort(AdapterClosed("the client was closed during the call", retryable=True))
        if self._open:
            self._all_closed.clear()
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._all_closed.wait()
            except TimeoutError:
                pass  # a peer that does not answer TLS's goodbye: its socket closes by itself

    async def acquire(self, ends: float, request: Request, *, fresh: bool) -> tuple[Connection, bool]:
        """Return a connection and whether it served before; `release` has to follow.

        Args:
            fresh: Make a new one, even where one is kept.
        """
        pool = self._usable()
        stage: DeadlineStage = "queue"
        try:
            waited = not pool.enter()
            if waited:
                async with asyncio.timeout_at(ends):
                    await pool.wait()
            try:
                if waited:
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
                f"{self.where}: no connection within {request.timeout_s:g} s"
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
        if self.tls is not None and self.tls.refresh():
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
                f"{self.where}: no connection within {limit_s:g} s; is the server up, and is the way to it open?",
                stage="connect",
            ) from None

    def _context(self) -> ssl.SSLContext | None:
        if self.tls is None:
            return None
        context = self.tls.context
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _connection(self) -> Connection:
        connection = Connection(self.where, self._scratch, self.settings.window_bytes, self._lost)
        self._open.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._pool is not None:
            self._pool.forget(connection)
        if not self._open:
            self._all_closed.set()
