"""A small HTTP/1.1 server: as much of RFC 9112 as the clients of an inference server use."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from .passage import abort, end_tasks, stop_listening

LOOPBACK = "127.0.0.1"
_REASONS = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Not Allowed",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip
_MAX_HEAD_BYTES = 65536


class ConnectionEnded(Exception):
    """Whoever produces the response ends the connection under it, by RST or by FIN."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("the connection was ended")
        self.reset = reset


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`headers` have lower-case names; `body` is decompressed."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`body` as bytes, or in chunks as they come, which stop when the client has gone.

    A `status` that is a function is asked once the first chunk is there, or there is none.
    """

    status: int | Callable[[], int] = 200
    body: bytes | AsyncIterator[bytes] = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HttpServer:
    """Answer every request on a port of the loopback interface with what `handler` returns."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, limit=_MAX_HEAD_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            await stop_listening(self._server)
        await end_tasks(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                response = await self._handler(request)
                await _write_response(reader, writer, request, response)
                if request.headers.get("connection", "").lower() == "close":
                    return
        except ConnectionEnded as end:
            with suppress(OSError):
                await writer.drain()
            abort(writer, reset=end.reset)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            # The client has gone, or does not speak HTTP.
            return
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request_line.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await _read_body(reader, headers)
    return HttpRequest(method, target.partition("?")[0], headers, _decompress(body, headers.get("content-encoding")))


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return b"".join(parts)


def _decompress(body: bytes, encoding: str | None) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


async def _write_response(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: HttpRequest, response: HttpResponse
) -> None:
    headers = dict(response.headers)
    if isinstance(response.body, bytes):
        body = response.body
        accepted = request.headers.get("accept-encoding", "")
        if body and "gzip" in accepted and headers.get("Content-Type") != "text/plain":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        writer.write(_head(response.status, headers | {"Content-Length": str(len(body))}) + body)
        await writer.drain()
        return
    # A client that closes, or half-closes, gives up: Triton takes both for a disconnect.
    sending = asyncio.ensure_future(_send_chunks(writer, response, response.body))
    gone = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            raise ConnectionResetError("the client has gone")
        sending.result()
    finally:
        for task in (sending, gone):
            task.cancel()
        await asyncio.gather(sending, gone, return_exceptions=True)


async def _send_chunks(writer: asyncio.StreamWriter, response: HttpResponse, chunks: AsyncIterator[bytes]) -> None:
    chunk = await anext(chunks, None)
    writer.write(_head(response.status, {**response.headers, "Transfer-Encoding": "chunked"}))
    while chunk is not None:
        writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        await writer.drain()
        chunk = await anext(chunks, None)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _head(status: int | Callable[[], int], headers: Mapping[str, str]) -> bytes:
    status = status() if callable(status) else status
    fields = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n{fields}\r\n".encode("latin-1")
