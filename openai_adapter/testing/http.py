"""The little of HTTP/1.1 that the scripted engine needs, in one protocol per connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    """By names in lower case."""
    body: bytes


class Gone(Exception):
    """The client is gone."""


class Connection(asyncio.Protocol):
    """One client: its requests are answered by `serve`, one after the other; it is cancelled when the client goes."""

    def __init__(self, serve: Callable[[Asked, Connection], Awaitable[None]], all_: set[Connection]) -> None:
        self._serve = serve
        self._all = all_
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._writable.set()
        self._all.add(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def write(self, data: bytes) -> None:
        """Write to the client, as fast as it reads; raises `Gone` when it is gone."""
        await self._writable.wait()
        if self.transport is None or self.transport.is_closing():
            raise Gone
        self.transport.write(data)

    async def answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        """Write a whole answer."""
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n"
        if kind:
            head += f"Content-Type: {kind}\r\n"
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await self.write(head.encode() + b"\r\n" + body)

    async def begin_stream(self, **headers: str) -> None:
        """Write the head of a stream."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await self.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
            + more.encode()
            + b"\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        """Write a piece of a stream; an empty one ends it."""
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def abort(self) -> None:
        """Reset the connection."""
        if self.transport is not None:
            # Without this it ends in order, as far as TCP goes.
            endpoint = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def _next(self) -> None:
        if self._task is not None:
            return
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._received = bytearray(rest[length:])
        self._task = asyncio.get_running_loop().create_task(self._run(Asked(method, path, headers, rest[:length])))

    async def _run(self, asked: Asked) -> None:
        try:
            with contextlib.suppress(Gone):
                await self._serve(asked, self)
        finally:
            self._task = None
        self._next()
