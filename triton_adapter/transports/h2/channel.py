"""The connection to use now: made when needed, anew when it is lost, and changed for another without losing calls."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from adapter_api import AdapterClosed, AdapterError, DeadlineExceeded
from adapter_api.errors import ConnectFailed
from adapter_kit.sockets import connected_socket
from adapter_kit.tls import TlsMaterial
from triton_adapter.address import Address
from triton_adapter.transports.h2.connection import Connection, NotHttp2

_PAUSE_S = 0.05
"""How long after an attempt that failed at once its failure is the answer to everybody who asks."""
_LONGER_S = 1.0
_CLOSE_S = 1.0
_MOST_CONNECTIONS = 3
"""That a call makes anew because the last one was gone before it was used; the next call tries again."""
_FAILED = "failed to connect to all addresses; last error: "


class Channel:
    """Connections to one address, one after another.

    Args:
        explain: Returns the error for the words of a connection that could not be made.
    """

    def __init__(
        self,
        address: Address,
        tls: TlsMaterial | None,
        *,
        server_name: str | None,
        connect_timeout_s: float,
        limit: int,
        explain: Callable[[str], AdapterError],
    ) -> None:
        self._address = address
        self._tls = tls
        self._server_name = server_name or address.host
        self._connect_timeout_s = connect_timeout_s
        self._limit = limit
        self._explain = explain
        self._current: Connection | None = None
        self._all: set[Connection] = set()
        self._connecting: asyncio.Task[Connection] | None = None
        self._failure: tuple[float, str] | None = None
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._called_up = 0
        """Turns that have come and are not taken yet: what room there is belongs to them."""
        self._closed = False

    def usable(self) -> Connection | None:
        """Return a connection on which a call may be made this moment."""
        connection = self._current
        if connection is None or connection.draining or self._waiting or self._called_up or connection.room < 1:
            return None
        if self._tls is not None and self._tls.refresh():
            # New certificates: calls under way finish on the old connection, new ones use the new files.
            self._current = None
            connection.retire()
            return None
        return connection

    async def connection(self, timeout_s: float) -> Connection:
        """Return a connection on which a call may be made this moment, waiting for it as long as that takes.

        Raises:
            ConnectFailed: There is none to be had; what it is about was not sent.
            Unauthenticated: A certificate does not verify.
            DeadlineExceeded: It takes too long.
            AdapterClosed: The channel is closed.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        made = 0
        while (found := self.usable()) is None:
            if self._closed:
                raise AdapterClosed("the adapter was closed during the call", retryable=True)
            current = self._current
            if current is None or current.draining:
                if made == _MOST_CONNECTIONS:
                    raise ConnectFailed(f"{self._address}: the server takes leave of each new connection (GOAWAY)")
                await self._connected(min(ends - loop.time(), self._connect_timeout_s))
                made += 1
            elif await self._turn(ends - loop.time(), current):
                return current
        return found

    async def aclose(self) -> None:
        """End all calls and close all connections."""
        self._closed = True
        self._wake()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting}, timeout=_CLOSE_S)
        open_ = tuple(self._all)
        for connection in open_:
            connection.close()
        if open_:
            await asyncio.wait([connection.closed for connection in open_], timeout=_CLOSE_S)
        for connection in open_:
            connection.abort()

    async def _connected(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._failure is not None and loop.time() - self._failure[0] < _PAUSE_S:
            raise self._explain(self._failure[1])
        # One task connects for all, and goes on when one of them does not wait any longer.
        if self._connecting is None:
            self._connecting = loop.create_task(self._connect())
            self._connecting.add_done_callback(self._connect_ended)
        connecting = self._connecting
        done, _ = await asyncio.wait({connecting}, timeout=max(limit_s, 0))
        if not done:
            raise DeadlineExceeded(
                f"{self._address}: no connection within {limit_s:.3g} s; is it a gRPC server, and is the way to it "
                "open?",
                stage="connect",
            )
        if self._closed or connecting.cancelled():
            raise AdapterClosed("the adapter was closed during the call", retryable=True)
        if (exc := connecting.exception()) is not None:
            if self._failure is None:
                raise exc
            raise self._explain(self._failure[1])

    def _connect_ended(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        if (exc := task.exception()) is None:
            self._failure, self._current = None, task.result()
        elif isinstance(exc, OSError | TimeoutError | UnicodeError):
            self._failure = (asyncio.get_running_loop().time(), _words(exc, self._address))
        else:
            self._failure = None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        context = None
        if self._tls is not None:
            context = self._tls.context
            context.set_alpn_protocols(["h2"])
        # A little longer than those wait who ask: their error names the stage.
        async with asyncio.timeout(self._connect_timeout_s + _LONGER_S):
            sock = await connected_socket(self._address.host, self._address.port)
            connection = Connection(limit=self._limit, on_change=self._wake)
            try:
                transport, _ = await loop.create_connection(
                    lambda: connection, sock=sock, ssl=context,
                    server_hostname=self._server_name if context is not None else None,
                )  # fmt: skip
                self._all.add(connection)
                connection.closed.add_done_callback(lambda _: self._all.discard(connection))
                _require_h2(transport, context)
                # The peer's SETTINGS come first (3.4): until then it may be anything.
                await asyncio.shield(connection.ready)
            except BaseException:
                connection.ready.add_done_callback(_seen)
                if not connection.abort():
                    sock.close()
                raise
        return connection

    async def _turn(self, timeout_s: float, current: Connection) -> bool:
        """Wait for one's turn while the peer takes no more calls at once (MAX_CONCURRENT_STREAMS).

        Returns whether it came: then a call may be made this moment. Otherwise the connection is not to be used any
        more.
        """
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._wake()
        taken = False
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                came = await turn
            taken = True
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self._address}: no room for the call within its time; {current.why_no_room}", stage="total"
            ) from None
        finally:
            if not turn.done() or turn.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(turn)
            elif turn.result():
                self._called_up -= 1
                if not taken:
                    self._wake()
        return came and not self._closed and self._current is current and not current.draining

    def _wake(self) -> None:
        """Let those go on that wait, as many as may, in the order in which they came."""
        current, waiting = self._current, self._waiting
        usable = current is not None and not current.draining and not self._closed
        while waiting and (current is None or not usable or current.room > self._called_up):
            turn = waiting.popleft()
            if not turn.done():
                self._called_up += usable
                turn.set_result(usable)


def _seen(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _require_h2(transport: asyncio.BaseTransport, context: ssl.SSLContext | None) -> None:
    if context is None:
        return
    chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
    if chosen != "h2":
        raise NotHttp2(f"no HTTP/2 over TLS there (ALPN says {chosen})")


def _words(exc: BaseException, address: Address) -> str:
    """Return why there is no connection, in the words that the table of texts knows (`wire/texts.py`)."""
    import socket

    if isinstance(exc, socket.gaierror | UnicodeError):
        return f"DNS resolution failed for {address.host}"
    if isinstance(exc, NotHttp2):
        return f"{_FAILED}the connection preface is not HTTP/2's: {exc}"
    if isinstance(exc, TimeoutError):
        return f"{_FAILED}connection attempt timed out"
    if isinstance(exc, ssl.SSLCertVerificationError) and "ostname mismatch" in str(exc.verify_message):
        return f"{_FAILED}Hostname Verification Check failed."
    if isinstance(exc, ssl.SSLError):
        return f"{_FAILED}Ssl handshake failed: {exc}"
    if isinstance(exc, ConnectionError) and exc.errno is None:
        return f"{_FAILED}Socket closed"
    said = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
    return f"{_FAILED}{said}"
