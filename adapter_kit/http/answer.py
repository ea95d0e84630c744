"""What a server answers: status and headers at once, the body as it comes or whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass

from adapter_api import AdapterClosed, AdapterError, ProtocolViolation
from adapter_kit.http.connection import Connection
from adapter_kit.http.inflating import Inflater
from adapter_kit.http.received import Received

_PIECE_BYTES = 256 * 1024
_CODINGS = ("gzip", "x-gzip", "deflate")


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer that is over."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case; what came several times is joined by commas."""
    body: bytes | bytearray


class HttpAnswer:
    """An answer whose headers have come. One reader, within `async with client.stream(…)`."""

    __slots__ = ("_connection", "_inflater", "_received", "_where", "headers", "reason", "status")

    def __init__(self, connection: Connection, received: Received, where: str) -> None:
        self._connection = connection
        self._received = received
        self._where = where
        self._inflater: Inflater | None = None
        self.status = received.status
        self.reason = received.reason
        self.headers: Mapping[str, str] = received.headers
        """By names in lower case; what came several times is joined by commas."""
        coding = (received.headers.get("content-encoding") or "identity").lower()
        if coding != "identity" and not received.no_body and received.length != 0:
            if coding not in _CODINGS:
                raise ProtocolViolation(f"{where}: the body is packed as {coding[:40]!r}, which nobody asked for")
            self._inflater = Inflater(coding, piece_bytes=_PIECE_BYTES)

    @property
    def delimited(self) -> bool:
        """Whether the body has an end of its own. Where it has none (HTTP/1.0), a cut looks like an end."""
        received = self._received
        return received.no_body or received.chunked or received.length is not None

    @property
    def over(self) -> bool:
        """Whether the whole body has come and was read."""
        return self._received.complete and not self._received.pieces

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the body: what has come since the last step, in one piece, up to about the window."""
        return _Chunks(self)

    def next_chunk(self) -> Awaitable[bytes]:
        """Return what has come of the body since the last call, waiting for the first of it; nothing at its end.

        Raises:
            AdapterClosed: The answer was left before; its connection may be another's by now.
            StreamIncomplete: The connection ended in order, and the body did not.
            ConnectionLost: The connection broke.
            DeadlineExceeded: Time ran out; what had come before was returned first.
            ProtocolViolation: The body breaks the rules of HTTP, or is not packed as it says.
        """
        connection = self._connection
        if connection.received is not self._received:
            raise AdapterClosed(f"{self._where}: the answer was left, and is read no more", retryable=True)
        # No coroutine of its own: a token may come alone.
        return connection.next() if self._inflater is None else self._unpacked(self._inflater)

    async def read(self, limit: int) -> bytes | bytearray:
        """Return the whole body; a large one of known length is received where it stays, without copies.

        Args:
            limit: The most bytes that it may have, unpacked.

        Raises:
            ProtocolViolation: It has more; nothing more of it is read, nor kept.
            AdapterError: As `next_chunk`.
        """
        length = self._received.length
        if length is not None and length > limit:
            raise self._too_long(limit)
        if length is not None and self._inflater is None and self._connection.received is self._received:
            return await self._connection.fill(length)
        parts, size = [], 0
        while data := await self.next_chunk():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise self._too_long(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abort(self, error: AdapterError | None = None) -> None:
        """Close the connection: the engine sees its client go. A read that waits raises `error`.

        Returns at once; may be called often and at any time, from the event loop's thread. Once the answer was left
        there is nothing to close: its connection may be another's.
        """
        if self._connection.received is not self._received:
            return
        self._connection.abort(error or AdapterClosed(f"{self._where}: the answer was given up here", retryable=True))

    async def _unpacked(self, inflater: Inflater) -> bytes:
        try:
            while True:
                if made := inflater.next():
                    return made
                packed = await self._connection.next()
                if not packed:
                    return inflater.finish()
                inflater.feed(packed)
        except AdapterError as exc:
            if exc.message.startswith(self._where):
                raise
            raise type(exc)(f"{self._where}: {exc.message}") from None

    def _too_long(self, limit: int) -> ProtocolViolation:
        return ProtocolViolation(f"{self._where}: the answer is longer than {limit} bytes, the most that is read")


class _Chunks:
    __slots__ = ("_next",)

    def __init__(self, answer: HttpAnswer) -> None:
        self._next = answer.next_chunk

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        data = await self._next()
        if not data:
            raise StopAsyncIteration
        return data
