"""One connection, and one exchange on it at a time: bytes out under back-pressure, bytes in within a window."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from adapter_api import (
    AdapterClosed,
    AdapterError,
    ConnectionLost,
    ProtocolViolation,
    StreamIncomplete,
    Unauthenticated,
)
from adapter_kit.arrival import Arrival
from adapter_kit.http.received import Received
from adapter_kit.http.request import Buffer

_WRITE_STEP = 256 * 1024
"""What goes to the transport at once: before Python 3.12 it copies what the socket does not take."""
_SINK_FIRST = 8 * 1024 * 1024


class Connection(asyncio.BufferedProtocol):
    """Bytes of one exchange after another; whoever has it is its only reader and writer.

    Args:
        where: The engine's address, for messages.
        scratch: Where bytes are received, shared by all connections of an event loop: filling it and emptying it is one
            step of the loop.
        window_bytes: How much lies around unread before reading pauses.
        on_lost: Called once, when the connection is over.
    """

    __slots__ = (
        "_arrival", "_loop", "_on_lost", "_paused", "_poll", "_scratch", "_sink", "_sink_at", "_transport", "_where",
        "_window_bytes", "_write_paused", "closed", "error", "generation", "idle_since", "keep_s", "received", "silent",
        "waiting_since",
    )  # fmt: skip

    def __init__(
        self, where: str, scratch: memoryview, window_bytes: int, on_lost: Callable[[Connection], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._where = where
        self._scratch = scratch
        self._window_bytes = window_bytes
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._arrival = Arrival(self._loop)
        self._sink: memoryview | None = None
        self._sink_at = 0
        self._paused = self._write_paused = False
        self.received: Received | None = None
        """The answer under way; `None` between exchanges."""
        self.silent = True
        """Whether nothing has come since the exchange began."""
        self.closed = False
        self.error: AdapterError | None = None
        """Why the exchange failed. What had come before can be read first."""
        self.waiting_since: float | None = None
        """Since when the reader waits, in the event loop's time; `None` while it does not."""
        self.generation = 0
        self.idle_since = 0.0
        self.keep_s = 0.0
        self._poll: select.poll | None = None

    # An exchange.

    def begin(self, received: Received) -> None:
        """Expect an answer."""
        self.received = received
        self.silent = True

    async def send(self, head: bytes, body: Sequence[Buffer]) -> None:
        """Send a request; returns early when the answer is there before all was sent, and is a refusal.

        Raises:
            AdapterError: The exchange failed.
        """
        assert self._transport is not None
        if len(body) == 1 and type(body[0]) is bytes and len(body[0]) <= _WRITE_STEP:
            self._transport.write(head + body[0])
            return
        views = [memoryview(part).cast("B") for part in body]
        if sum(map(len, views)) <= _WRITE_STEP:
            self._transport.write(b"".join((head, *views)))
            return
        self._transport.write(head)
        for view in views:
            for at in range(0, len(view), _WRITE_STEP):
                if not await self.writable():
                    return
                self._transport.write(view[at : at + _WRITE_STEP])

    def write(self, data: bytes) -> None:
        """Send more of a body, after `writable`."""
        assert self._transport is not None
        self._transport.write(data)

    async def writable(self) -> bool:
        """Wait until more can be sent; return false when it would be for nothing, as the engine has refused already."""
        while True:
            received = self.received
            if received is not None and (received.complete or (received.head_done and received.status >= 300)):
                # What was not sent is owed: the connection cannot be used again.
                received.keep_alive = False
                return False
            if self.error is not None:
                raise self.error
            if not self._write_paused:
                return True
            await self._wait()

    async def head(self) -> Received:
        """Wait for the head of the answer.

        Raises:
            AdapterError: The exchange failed before it came.
        """
        received = self.received
        assert received is not None
        while not received.head_done:
            if self.error is not None:
                raise self.error
            await self._wait()
        return received

    async def next(self) -> bytes:
        """Return what has come of the body, waiting for the first of it; nothing at its end.

        Raises:
            AdapterError: The exchange failed, and what had come before was read.
        """
        received = self.received
        assert received is not None
        while True:
            pieces = received.pieces
            if pieces:
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                pieces.clear()
                received.unread = 0
                if self._paused:
                    self._resume()
                return data
            if received.complete:
                return b""
            if self.error is not None:
                raise self.error
            # As `_wait`, spelt out: it runs once per token.
            self.waiting_since = self._loop.time()
            try:
                await self._arrival
            finally:
                self.waiting_since = None

    async def fill(self, length: int) -> bytes | bytearray:
        """Return a body of known length; what has not come yet is received where it stays.

        Raises:
            AdapterError: The exchange failed before all had come.
        """
        received = self.received
        assert received is not None
        if received.complete:
            return await self.next()
        # A Content-Length may lie: no more memory than twice what has come, from some size on.
        target = bytearray(min(length, _SINK_FIRST))
        at = 0
        while at < length:
            if received.readable or self.error is not None:
                data = await self.next()
                if not data:
                    break
                _grow(target, at + len(data), length)
                target[at : at + len(data)] = data
                at += len(data)
                continue
            _grow(target, at + 1, length)
            with memoryview(target) as whole:
                self._sink, self._sink_at = whole[at:], 0
                self._resume()
                try:
                    while self._sinking and self.error is None:
                        await self._wait()
                finally:
                    at += self._sink_at
                    self._sink.release()
                    self._sink = None
        return target

    def over(self) -> bool:
        """End the exchange; return whether another may follow on this connection."""
        received, self.received = self.received, None
        if received is None:
            return False
        received.forget()
        if self.closed or self.error is not None:
            return False
        if not received.complete or received.surplus:
            return False
        if not received.keep_alive or self._write_paused:
            return False
        self._resume()
        return True

    def abort(self, error: AdapterError | None = None) -> None:
        """Close at once; a reader that waits gets `error`."""
        if error is None and self.waiting_since is not None:
            error = AdapterClosed(f"{self._where}: the answer was left while it was read", retryable=True)
        if error is not None and self.error is None:
            self.error = error
        if self._transport is not None:
            self._transport.abort()
        self._arrival.go_on_soon()

    def close(self) -> None:
        """Close a connection that nobody uses."""
        if self._transport is not None:
            self._transport.close()

    def is_quiet(self) -> bool:
        """Return whether nothing, not even its end, waits in the socket: the event loop may not have come to it yet."""
        poll = self._poll
        if poll is None:
            assert self._transport is not None
            socket = self._transport.get_extra_info("socket")
            if socket is None or (fileno := socket.fileno()) < 0:
                return False
            poll = self._poll = select.poll()
            poll.register(fileno, select.POLLIN)
        return not self.closed and not poll.poll(0)

    async def _wait(self) -> None:
        self.waiting_since = self._loop.time()
        try:
            await self._arrival
        finally:
            self.waiting_since = None

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._sink[self._sink_at :] if self._sink is not None and self._sinking else self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        received = self.received
        if received is None or received.complete:
            # Unasked for. It may be another's answer: nothing that follows could be trusted.
            if received is not None:
                received.surplus = True
            self.abort()
            return
        self.silent = False
        sinking = self._sink is not None and self._sinking
        if sinking:
            self._sink_at += nbytes
            received.size += nbytes
        else:
            self._take(received, self._scratch[:nbytes])
        if received.length is not None and received.rest == 0:
            received.complete = True
        if sinking:
            self._arrival.go_on_soon()  # the event loop holds a piece of what the reader wants to let go, or to enlarge
        else:
            self._arrival.go_on()

    def _take(self, received: Received, data: memoryview) -> None:
        rest = None if received.length is None else received.rest
        if rest is not None and received.head_done:
            # The length is known: nothing to parse until the end.
            if len(data) > rest:
                received.surplus = True
                data = data[:rest]
            piece = bytes(data)
            received.pieces.append(piece)
            received.count(1)
        else:
            try:
                received.feed(data)
            except ProtocolViolation as exc:
                self.abort(ProtocolViolation(f"{self._where}: {exc.message}"))
                return
        if not self._paused and not received.complete and received.unread >= self._window_bytes:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    @property
    def _sinking(self) -> bool:
        """Whether bytes go where they stay. Until the reader has come by, what follows a full sink does not."""
        return self._sink is not None and self._sink_at < len(self._sink)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._arrival.go_on_soon()

    def eof_received(self) -> None:
        """Let the transport close itself: nobody half-closes in HTTP/1.1."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        received = self.received
        if received is not None and not received.complete and self.error is None and (exc or not received.end()):
            self.error = self._lost(received, exc)
        self._arrival.go_on_soon()
        self._on_lost(self)

    def _lost(self, received: Received, exc: Exception | None) -> AdapterError:
        error: AdapterError
        if isinstance(exc, ssl.SSLError):
            error = Unauthenticated(
                f"{self._where} ends the TLS connection ({exc.reason or 'no reason'}): it may want a certificate of "
                "ours (`tls.cert_file`, `tls.key_file`), or another one"
            )
        elif self.silent:
            error = ConnectionLost(f"{self._where} closed the connection without an answer")
        elif exc is not None or not received.head_done:
            part = "body" if received.head_done else "headers"
            error = ConnectionLost(f"the connection to {self._where} broke in the {part} of its answer")
        else:
            of = f" of {received.length}" if received.length is not None else ""
            error = StreamIncomplete(
                f"{self._where} ended its answer in the middle: {received.size}{of} bytes came, and no end"
            )
        error.__cause__ = exc
        return error


def _grow(target: bytearray, needed: int, length: int) -> None:
    if needed > len(target):
        target.extend(bytes(min(max(needed, 2 * len(target)), length) - len(target)))
