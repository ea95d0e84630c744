"""Servers that say exactly what a test wants said, byte by byte, on a loopback port of their own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from adapter_kit.http import HttpClient

WITHIN_S = 20.0
"""What every wait of these tests is bounded by: nothing takes that long."""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def asked(self) -> Asked:
        """Read one request; raise `EOFError` when the client closes instead."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Asked(line, headers, body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Break the connection, as a host that is switched off does at best."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Served:
    """A server that runs."""

    port: int
    tls: bool
    connections: int = 0
    closed: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    """The numbers of connections whose script is over."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(script: Script, *, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Served]:
    """Run a server whose connections each follow `script` to its end."""
    tasks: set[asyncio.Task[None]] = set()

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        served.connections += 1
        number = served.connections
        # The client is what is tried: that it leaves in the middle is no failure here.
        with suppress(ConnectionError, EOFError, asyncio.CancelledError, ssl.SSLError):
            await script(Peer(reader, writer, number))
        writer.close()
        served.closed.put_nowait(number)
        tasks.discard(task)

    server = await asyncio.start_server(follow, "127.0.0.1", port, ssl=tls)
    served = Served(server.sockets[0].getsockname()[1], tls is not None)
    try:
        yield served
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=WITHIN_S)
        await server.wait_closed()


def always(answer: bytes) -> Script:
    """Answer each request with the same bytes, and keep the connection."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.asked()
            await peer.send(answer)

    return script


def once(answer: bytes) -> Script:
    """Answer one request and close."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(answer)

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def read_to_the_end(client: HttpClient, read: list[bytes], **times: Any) -> None:
    """Add to `read` what comes of the answer to one request."""
    async with client.stream("GET", "/", **times) as answer:
        async for data in answer.chunks():
            read.append(data)
