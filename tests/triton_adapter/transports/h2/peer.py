"""A peer of HTTP/2 that says what a test has it say, byte for byte: it shares no line with what is tried on it."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from triton_adapter import TritonSettings
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import SERVER_LIVE

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAIT_S = 5.0
LIVE = v2.ServerLiveResponse(live=True).SerializeToString()


class Served(NamedTuple):
    """How peers are served over TLS."""

    context: ssl.SSLContext
    ca_file: str


SERVED: Served | None = None
"""How all peers are that are told nothing else; `None`: in plain text. Set by the fixture `over`."""


class Frame(NamedTuple):
    """What came in one frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def settings(**values: int) -> bytes:
    """Return SETTINGS; a name is `s` and the number of the setting, as in `s3=1`."""
    return frame(SETTINGS, b"".join(struct.pack(">HI", int(name[1:]), value) for name, value in values.items()))


def block(*headers: tuple[str, str]) -> bytes:
    """Return a header block of literals."""
    found = b""
    for name, value in headers:
        for text in (name.encode("latin-1"), value.encode("latin-1")):
            assert len(text) < 127
        found += b"\x00" + bytes((len(name),)) + name.encode("latin-1") + bytes((len(value),)) + value.encode("latin-1")
    return found


ANSWER = block((":status", "200"), ("content-type", "application/grpc"))
FINE = block(("grpc-status", "0"))


def head(stream: int, payload: bytes = ANSWER, *, flags: int = END_HEADERS) -> bytes:
    """Return the head of an answer."""
    return frame(HEADERS, payload, flags=flags, stream=stream)


def trailers(stream: int, payload: bytes = FINE) -> bytes:
    """Return the end of an answer."""
    return frame(HEADERS, payload, flags=END_HEADERS | END_STREAM, stream=stream)


def message(data: bytes = LIVE, *, compressed: bool = False) -> bytes:
    """Return a message of gRPC."""
    return bytes((compressed,)) + struct.pack(">I", len(data)) + data


def data(stream: int, payload: bytes | None = None, *, flags: int = 0) -> bytes:
    """Return DATA, by default of one whole message."""
    return frame(DATA, message() if payload is None else payload, flags=flags, stream=stream)


def answer(stream: int) -> bytes:
    """Return a whole answer to `ask`."""
    return head(stream) + data(stream) + trailers(stream)


class Wire:
    """One connection of the peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.seen: list[Frame] = []

    async def greet(self, said: bytes = settings()) -> None:
        """Read the client's preface, and say SETTINGS."""
        assert await self.reader.readexactly(len(PREFACE)) == PREFACE
        self.writer.write(said)

    async def frame(self) -> Frame | None:
        """Return the next frame; `None` at the end of the connection."""
        try:
            start = await self.reader.readexactly(9)
            size, kind, flags = int.from_bytes(start[:3], "big"), start[3], start[4]
            found = Frame(kind, flags, int.from_bytes(start[5:], "big"), await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self.seen.append(found)
        return found

    async def until(self, kind: int, *, flags: int = 0) -> Frame:
        """Return the next frame of a kind."""
        while True:
            found = await self.frame()
            assert found is not None, f"no frame of kind {kind} came"
            if found.kind == kind and found.flags & flags == flags:
                return found

    async def call(self) -> int:
        """Read a whole request; return its stream."""
        return (await self.until(DATA, flags=END_STREAM)).stream

    async def ending(self) -> list[Frame]:
        """Read to the end of the connection; return what came from now on."""
        before = len(self.seen)
        while await self.frame() is not None:
            pass
        return self.seen[before:]

    def send(self, *parts: bytes) -> None:
        """Send bytes, to whoever is still there."""
        if not self.writer.transport.is_closing():  # uvloop raises where asyncio's own loop throws them away
            self.writer.write(b"".join(parts))


Script = Callable[[Wire], Awaitable[None]]


class Peer:
    """Plays a script on each connection, the last one on all further ones."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self._scripts = list(scripts)
        self.wires: list[Wire] = []
        self.port = 0
        self.served: Served | None = None
        self.failures: list[BaseException] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play a script."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        wire = Wire(reader, writer)
        self.wires.append(wire)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        try:
            await script(wire)
        except (AssertionError, asyncio.IncompleteReadError) as exc:
            self.failures.append(exc)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.tasks.discard(task)


@asynccontextmanager
async def playing(*scripts: Script, tls: ssl.SSLContext | Literal[False] | None = None) -> AsyncIterator[Peer]:
    """A peer that plays scripts, and must not have failed in the end; with `tls` false in plain text, however others
    are."""
    peer = Peer(scripts)
    peer.served = SERVED if tls is None else None
    context = tls or (None if peer.served is None else peer.served.context)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=context)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        tasks = tuple(peer.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=WAIT_S)
    assert peer.failures == []


@asynccontextmanager
async def transport_to(peer: Peer, **options: object) -> AsyncIterator[H2Transport]:
    """Our transport to a peer."""
    if peer.served is not None:
        options = {"tls": {"ca_file": peer.served.ca_file}} | options
    scheme = "grpcs" if "tls" in options else "grpc"
    given = {"url": f"{scheme}://127.0.0.1:{peer.port}", "transport": "h2"} | options
    transport = H2Transport(TritonSettings.model_validate(given))
    try:
        yield transport
    finally:
        await transport.aclose()


async def ask(transport: H2Transport, timeout_s: float = WAIT_S) -> bool:
    """Make the smallest call there is; true when it was answered."""
    answered = await transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=timeout_s)
    return bool(answered.live)


async def honest(wire: Wire) -> None:
    """Answer every call."""
    await wire.greet()
    while True:
        found = await wire.frame()
        if found is None:
            return
        if found.kind == DATA and found.flags & END_STREAM:
            wire.send(answer(found.stream))
