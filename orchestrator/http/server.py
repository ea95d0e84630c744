"""Listening: uvicorn with bounds on headers and on readers, on sockets that are bound before anything starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import anyio
import msgspec
import uvicorn
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from adapter_api import ConfigurationError
from orchestrator.config import ServerSettings
from orchestrator.http.garbage import Garbage, leave_to_us
from orchestrator.http.hangups import Hangups
from orchestrator.http.joined_head import JoinedHead
from orchestrator.http.limits import HEADERS_TOO_LARGE, ONE_TOO_MANY, headers_too_large
from orchestrator.http.presence import EXTENSION
from orchestrator.http.problems import Refused, body_of, status_of
from orchestrator.http.request_ids import HEADER
from orchestrator.http.turned_away import TurnedAway

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

BACKLOG = 2048
KEEP_ALIVE_S = 30
AHEAD = 16
"""Requests that a connection may send before it has its answer and still be read from. One read, of 256 KiB at most,
may bring more of them; then nothing is read until they are answered, and `Hangups` tells of a client that leaves."""
_NO_HTTP = Refused("invalid_request", "these bytes are no HTTP/1.1 request")


class Server(uvicorn.Server):
    """A server that leaves signals to its owner, and is told to stop by `stop`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()
        self.finished = anyio.Event()
        self._stop = anyio.Event()

    def stop(self) -> None:
        """Take no more connections and finish those there are, within the grace of the settings."""
        self.should_exit = True
        self._stop.set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self.finished.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # sets the Date header, and looks whether to stop
            with anyio.move_on_after(1.0):
                await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def make_server(app: ASGIApp, settings: ServerSettings, turned_away: TurnedAway) -> Server:
    """Return a server for `app`; run it with `await server.serve([socket])`, end it with `stop`. `turned_away` is told
    of requests that never reach the app."""
    limits = settings.limits
    bounds = {
        "header_timeout_s": limits.header_timeout_s,
        "write_timeout_s": limits.write_timeout_s,
        "max_header_bytes": limits.max_header_bytes,
        "garbage": Garbage(),
        "turned_away": turned_away,
        "hangups": Hangups(),
        "cors_origins": frozenset(settings.cors_origins),
    }
    protocol = type("Protocol", (_Protocol,), bounds)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody here looks at what they would change: the client's address and the scheme
        backlog=BACKLOG,
        limit_concurrency=limits.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s) or 1,
        ssl_certfile=str(settings.tls.certificate) if settings.tls else None,
        ssl_keyfile=str(settings.tls.key) if settings.tls else None,
    )
    try:
        config.load()
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigurationError(f"the certificate or key in server.tls cannot be used: {exc.strerror or exc}") from exc
    logging.getLogger("uvicorn.error").addFilter(leave_to_us)  # the same one: it is added once
    return Server(config)


def bind(host: str, port: int, chosen_by: str) -> socket.socket:
    """Return a listening socket; raises `ConfigurationError` when the address cannot be had, and names what it is
    `chosen_by`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol's number: asyncio sets TCP_NODELAY only where it sees one, and without it tokens wait for 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
        return bound
    except OSError as exc:
        bound.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {exc.strerror or exc}; "
            f"choose another port with {chosen_by}, 0 for any"
        ) from exc


def url_of(bound: socket.socket, settings: ServerSettings) -> str:
    """Return the URL that a client on this machine can use."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{'https' if settings.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


class _Protocol(HttpToolsProtocol):
    """Closes connections whose headers are too slow or too large, or whose reader takes nothing."""

    header_timeout_s: float
    write_timeout_s: float
    garbage: Garbage
    turned_away: TurnedAway
    hangups: Hangups
    cors_origins: frozenset[str]
    max_header_bytes: int
    """What uvicorn would collect without end. No request with more is let in; of one whose headers do not end, a little
    more arrives with the read that goes over it."""
    _headers_due: asyncio.TimerHandle | None = None
    _header_bytes = 0
    """Of the reads that brought nothing but headers."""
    _header_begun = False
    _arriving = 0
    """Bytes of the read that is looked at."""
    _began_with = 0
    """Bytes of the read in which the headers began, with what stood before them."""
    _in_body = False
    _body_came = False
    _trailer_bytes = 0
    """Of the reads since the last one that brought a piece of the body."""
    _reading_due: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    """What is being answered. `cycle` is what came last, which waits if it was sent before the answer."""
    _presence: _ClientPresence | None = None
    """That of its client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline, self.hangups)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._got_headers()
        self._stop_watching_the_reader()
        if isinstance(self.flow, _Flow):
            self.flow.forget()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
        super().connection_lost(exc)
        if self._presence is not None:
            self._presence.left()

    def data_received(self, data: bytes) -> None:
        due = self._headers_due
        self._arriving, self._body_came = len(data), False
        super().data_received(data)
        if self._header_begun and self._headers_due is None:  # most headers come whole, and need no timer
            self._expect_headers()
        if due is not None and self._headers_due is due:  # of the same request: others may have come whole in between
            self._header_bytes += len(data)
            if self._header_bytes > self.max_header_bytes:
                self._got_headers()
                self._refuse(headers_too_large(self.max_header_bytes))
        if self._in_body:
            self._trailer_bytes = 0 if self._body_came else self._trailer_bytes + len(data)
            if self._trailer_bytes > self.max_header_bytes:
                self._in_body = False
                self._refuse(headers_too_large(self.max_header_bytes))

    def send_400_response(self, msg: str) -> None:
        self.garbage.came_from(self.client[0] if self.client else "a socket without an address")
        self._refuse(_NO_HTTP)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_begun = True
        self._began_with = self._arriving

    def on_headers_complete(self) -> None:
        came = self._began_with + self._header_bytes + self._arriving  # at least: most need no closer look
        if came > self.max_header_bytes and _size_of(self.url, self.headers) > self.max_header_bytes:
            self.scope.setdefault("state", {})[HEADERS_TOO_LARGE] = True
        self._got_headers()
        super().on_headers_complete()
        # What comes behind a body, its trailers, must not become headers of a request that somebody has let in.
        self.headers = []
        self._in_body, self._trailer_bytes = True, 0
        # uvicorn reads no more behind a request that has to wait: then nobody would see the client leave.
        if self._presence is not None and self.pipeline:
            self._presence.listen()

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_the_reader()

    def resume_writing(self) -> None:
        self._stop_watching_the_reader()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # closing would wait for its reader
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if app is not self.app:  # uvicorn's own answer to one too many, which no client of a face could read
            cycle.scope.setdefault("state", {})[ONE_TOO_MANY] = True
            app = self.app
        if cycle.scope["method"] == "POST":  # others are rare, and HEAD has no body
            cycle.transport = JoinedHead(self.transport)  # type: ignore[assignment]
        if cycle.scope["http_version"] == "1.0":
            cycle.send = _UntilTheEnd(cycle)  # type: ignore[method-assign]
        self._running, self._presence = cycle, _ClientPresence(cycle.message_event, cycle.flow)
        cycle.scope["extensions"] = {EXTENSION: {"client": self._presence}}
        super()._start_asgi_task(cycle, app)

    def _refuse(self, refused: Refused) -> None:
        """Answer what never becomes a request that a face could answer, and close the connection."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.close()  # it came behind a request whose answer is on its way, and must not get into that
            return
        if (scope := self._last_scope) is not None:
            self.turned_away.tell(refused, HTTPConnection(scope))
        status = HTTPStatus(status_of(refused.error.code))
        body = msgspec.json.encode(body_of(refused.error, ""))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{HEADER}: {uuid4().hex}\r\n{self._for_its_page()}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    @property
    def _last_scope(self) -> dict[str, Any] | None:
        """That of the last request, as far as its headers had come; none before the first one."""
        return cast("dict[str, Any] | None", self.scope)

    def _for_its_page(self) -> str:
        """Return what lets the page of a listed origin read a refusal, as far as its headers had come."""
        scope = self._last_scope
        origin = dict(scope["headers"] if scope else ()).get(b"origin", b"").decode("latin-1")
        if "*" in self.cors_origins:
            return "Access-Control-Allow-Origin: *\r\n"
        return f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n" if origin in self.cors_origins else ""

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.header_timeout_s, self.transport.close)

    def _got_headers(self) -> None:
        self._header_bytes = 0
        self._header_begun = False
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _watch_the_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._reading_due = self.loop.call_later(self.write_timeout_s, self._cut_off_unless_less_than, left)

    def _stop_watching_the_reader(self) -> None:
        if self._reading_due is not None:
            self._reading_due.cancel()
            self._reading_due = None

    def _cut_off_unless_less_than(self, left: int) -> None:
        if self.transport.get_write_buffer_size() < left:
            self._watch_the_reader()
        else:
            self.transport.abort()


def _size_of(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


class _Flow(FlowControl):
    """Reads nothing from a client that is far ahead of its answers, and still hears of its leaving.

    uvicorn reads on after each answer: each read brings thousands of small requests, which would pile up.
    """

    def __init__(
        self, transport: asyncio.Transport, pipeline: deque[tuple[RequestResponseCycle, ASGI3Application]],
        hangups: Hangups,
    ) -> None:  # fmt: skip
        super().__init__(transport)
        self._pipeline = pipeline
        self._hangups = hangups
        self._watched = -1

    def resume_reading(self) -> None:
        if not self.read_paused:
            return
        if len(self._pipeline) <= AHEAD:
            self.forget()
            super().resume_reading()
        elif self._watched < 0 and not self._transport.is_closing():
            # A connection that is closed for writing, or broken, is closed for us too, as when it is read from. TLS
            # would wait for an answer to its good-bye, which nobody reads.
            leave = (
                self._transport.close if self._transport.get_extra_info("sslcontext") is None else self._transport.abort
            )
            self._watched = self._transport.get_extra_info("socket").fileno()
            self._hangups.watch(self._watched, leave)

    def forget(self) -> None:
        self._hangups.forget(self._watched)
        self._watched = -1


class _ClientPresence:
    """The `Presence` of the client of one request."""

    __slots__ = ("_flow", "_is_gone", "_message_event", "_on_gone")

    def __init__(self, message_event: asyncio.Event, flow: FlowControl) -> None:
        # Not the cycle itself, whose scope has this: what goes in a circle is freed late.
        self._message_event = message_event
        self._flow = flow
        self._on_gone: Callable[[], None] | None = None
        self._is_gone = False

    @property
    def has_message(self) -> bool:
        return self._message_event.is_set()

    def tell(self, on_gone: Callable[[], None]) -> None:
        if self._is_gone:
            on_gone()
            return
        self._on_gone = on_gone
        self.listen()

    def listen(self) -> None:
        """Read from the client, if somebody is to be told when it leaves: nobody sees that while nothing is read."""
        if self._on_gone is not None:
            self._flow.resume_reading()

    def forget(self) -> None:
        self._on_gone = None

    def left(self) -> None:
        self._is_gone = True
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone()


class _UntilTheEnd:
    """Sends an answer of unknown length as HTTP/1.0 has it: no chunks, which uvicorn would send; it ends where the
    connection does."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._has_length = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
        if not self._has_length:
            self._cycle.chunked_encoding = False
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
