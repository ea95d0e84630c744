"""One client's connection through `FaultProxy`, and the one to the server that belongs to it.

A plaintext HTTP/2 connection is carried frame by frame, so that a frame of our own can be put between two others; any
other one piece by piece, as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Protocol

from .frames import PREFACE, ErrorCode, Frame, FrameSplitter, FrameType, MessageCounter, go_away, rst_stream

_CHUNK_BYTES = 65536
_TURNS = 5
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Count(Protocol):
    """Told of the bytes that went each way."""

    def __call__(self, *, to_client: int = 0, to_server: int = 0) -> None: ...


class Faults:
    """What is wrong with the way at the moment, for all connections. Bytes are counted towards the client."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.drip_bytes: int | None = None
        self.drip_every_s = 0.0
        self.refused_streams = 0
        self.bytes_until_cut: int | None = None
        self.cut_by_reset = True
        self.flowing = asyncio.Event()
        self.flowing.set()

    def heal(self) -> None:
        self.delay_s = 0.0
        self.drip_bytes = None
        self.refused_streams = 0
        self.bytes_until_cut = None
        self.flowing.set()


class Passage:
    """Carry bytes both ways until both ends are done or it is cut."""

    def __init__(self, faults: Faults, client: Streams, server: Streams, count: Count) -> None:
        self._faults = faults
        self._count = count
        self._client_reader, self._client_writer = client
        self._server_reader, self._server_writer = server
        self.local_port: int = self._server_writer.get_extra_info("sockname")[1]
        self._to_client = Way(self._client_writer)
        self._to_server = Way(self._server_writer)
        # Not known before the first bytes.
        self.is_http2: bool | None = None
        self._open_streams: set[int] = set()
        self._refused_streams: set[int] = set()
        self._last_stream_id = 0
        self._messages = MessageCounter()
        self._moved = asyncio.Event()
        self._client_spoke = asyncio.Event()
        self._pumps: asyncio.Future[tuple[None, None]] | None = None
        self._is_cut = False

    async def run(self) -> None:
        try:
            self._pumps = asyncio.gather(self._pump_to_server(), self._pump_to_client())
            await self._pumps
        except OSError:
            # An end that was reset is passed on as a reset.
            self.cut(reset=True)
        except asyncio.CancelledError:
            if not self._is_cut:
                self.cut(reset=False)
                raise
        finally:
            self._is_cut = True
            self._moved.set()
            for writer in (self._client_writer, self._server_writer):
                writer.close()

    def cut(self, *, reset: bool) -> None:
        """End both connections at once; what was not sent yet is lost."""
        self._is_cut = True
        for writer in (self._client_writer, self._server_writer):
            abort(writer, reset=reset)
        if self._pumps is not None:
            self._pumps.cancel()

    def reset_streams(self, code: int) -> None:
        """End every open HTTP/2 stream with RST_STREAM."""
        for stream_id in sorted(self._open_streams):
            self._reset(stream_id, code)

    def go_away(self, code: int, debug: bytes, last_stream_id: int | None) -> None:
        last = self._last_stream_id if last_stream_id is None else last_stream_id
        self._to_client.inject(go_away(last, code, debug))

    async def has_passed(self, messages: int, timeout_s: float = 5.0) -> None:
        """Wait until so many gRPC messages went on to the client, or the passage is over."""
        async with asyncio.timeout(timeout_s):
            while self._messages.count < messages and not self._is_cut:
                self._moved.clear()
                await self._moved.wait()

    async def _pump_to_server(self) -> None:
        splitter = FrameSplitter(len(PREFACE))
        while data := await self._client_reader.read(_CHUNK_BYTES):
            if self.is_http2 is None:
                self.is_http2 = PREFACE.startswith(data[: len(PREFACE)])
                self._client_spoke.set()
            if not self.is_http2:
                await self._send_to_server(data)
                continue
            preface, frames = splitter.feed(data)
            await self._send_to_server(preface)
            for frame in frames:
                await self._frame_to_server(frame)
        self._client_spoke.set()
        await self._faults.flowing.wait()
        self._to_server.end()

    async def _frame_to_server(self, frame: Frame) -> None:
        stream_id = frame.stream_id
        if stream_id in self._refused_streams:
            return
        with self._to_server.whole(frame):
            await self._send_to_server(frame.wire)
        if frame.kind == FrameType.RST_STREAM:
            self._open_streams.discard(stream_id)
        elif frame.kind == FrameType.HEADERS and stream_id > self._last_stream_id:
            self._last_stream_id = stream_id
            self._open_streams.add(stream_id)
            if self._faults.refused_streams > 0:
                # The header block had to go on all the same: both ends keep a table of the headers they have seen.
                self._faults.refused_streams -= 1
                self._refused_streams.add(stream_id)
                self._reset(stream_id, ErrorCode.REFUSED_STREAM)

    async def _pump_to_client(self) -> None:
        # What this connection is, its client says.
        await self._client_spoke.wait()
        splitter = FrameSplitter()
        while data := await self._server_reader.read(_CHUNK_BYTES):
            if not self.is_http2:
                await self._send_to_client(data)
                continue
            for frame in splitter.feed(data)[1]:
                with self._to_client.whole(frame):
                    await self._send_to_client(frame.wire)
                if frame.ends_stream:
                    self._open_streams.discard(frame.stream_id)
                self._messages.feed(frame)
                self._moved.set()
        await self._faults.flowing.wait()
        self._to_client.end()

    async def _send_to_server(self, data: bytes) -> None:
        if data:
            await self._wait()
            await self._to_server.send(data)
            self._count(to_server=len(data))

    async def _send_to_client(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            await self._wait()
            size = self._allowed(len(data) - start)
            await self._to_client.send(data[start : start + size])
            start += size
            self._count(to_client=size)
            self._spend(size)
            if self._faults.drip_bytes:
                await asyncio.sleep(self._faults.drip_every_s)

    async def _wait(self) -> None:
        if self._faults.delay_s:
            await asyncio.sleep(self._faults.delay_s)
        await self._faults.flowing.wait()

    def _allowed(self, size: int) -> int:
        limits = (self._faults.drip_bytes, self._faults.bytes_until_cut)
        return min(size, *(limit for limit in limits if limit), size)

    def _spend(self, size: int) -> None:
        if self._faults.bytes_until_cut is not None:
            self._faults.bytes_until_cut -= size
            if self._faults.bytes_until_cut <= 0:
                self._faults.bytes_until_cut = None
                self.cut(reset=self._faults.cut_by_reset)

    def _reset(self, stream_id: int, code: int) -> None:
        self._open_streams.discard(stream_id)
        self._to_client.inject(rst_stream(stream_id, code))
        self._to_server.inject(rst_stream(stream_id, ErrorCode.CANCEL))


class Way:
    """One direction: send, and slip frames of our own in where one may stand."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: list[Frame] = []
        # Nothing may come before the peer's own first frame, nor inside a frame or a block of headers.
        self._may_inject = False

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    @contextlib.contextmanager
    def whole(self, frame: Frame) -> Iterator[None]:
        """Keep injected frames out while `frame` is being sent."""
        self._may_inject = False
        yield
        self._may_inject = not frame.opens_header_block
        if self._may_inject:
            waiting, self._waiting = self._waiting, []
            for own in waiting:
                self._writer.write(own.wire)

    def inject(self, frame: Frame) -> None:
        if self._may_inject:
            self._writer.write(frame.wire)
        else:
            self._waiting.append(frame)

    def end(self) -> None:
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()


async def stop_listening(server: asyncio.Server) -> None:
    """Close the port once everything that was accepted has been handed over."""
    # asyncio hands a connection over in several turns, and loses its socket when the server is closed in between.
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    await _settle()
    server.close()


async def _settle() -> None:
    """Let asyncio finish what takes it a few turns of its loop, such as closing an aborted connection."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def end_tasks(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks of a server whose port is closed, and return when their sockets are closed too."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
    await _settle()


def abort(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Close at once, with RST or with FIN."""
    sock = writer.get_extra_info("socket")
    if reset and sock is not None and sock.fileno() >= 0:
        # Closing with a linger time of zero sends RST.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
