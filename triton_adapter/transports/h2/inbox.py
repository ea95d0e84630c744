"""What comes in on one stream: the messages of its DATA, and how much more it may send."""

from __future__ import annotations

import zlib

from triton_adapter.transports.h2.frames import LEAST_FRAME, PROTOCOL_ERROR, Violation

PREFIX = 5
"""Bytes in front of each message: whether it is compressed, and its length (gRPC, "Length-Prefixed-Message")."""
LARGE = 64 * 1024
"""Bytes from which a message in several pieces is handed on as a view of what it was gathered in."""
Message = bytes | memoryview
_INFLATE = {"gzip": 31, "deflate": 15}
"""What `zlib` has to be told for the two codings."""


class Inbox:
    """The messages of one stream, whole ones and the one that is still coming.

    `limit` is the largest message in bytes, before and after it is inflated; below 0 there is none. What is kept of a
    message is what came of it, never what its length promises.
    """

    __slots__ = ("_coding", "_flag", "_limit", "_message", "_missing", "_start", "between", "messages")

    def __init__(self, limit: int) -> None:
        self.messages: list[Message] = []
        """Whole messages that nobody has taken yet."""
        self.between = False
        """The next byte begins a message, and one that fills a frame is not too large: it may be put into `messages`
        without `feed`, if it is not compressed."""
        self._coding = "identity"
        self._limit = limit
        self._message: bytearray | None = None
        self._missing = 0
        self._flag = 0
        self._start = b""
        """A message's prefix that is not whole yet."""

    @property
    def in_the_middle(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._message is not None or bool(self._start)

    @property
    def missing(self) -> int:
        """Bytes that are still to come of the message that has begun."""
        return self._missing

    @property
    def compressed(self) -> bool:
        """Whether the message that has begun has to be inflated, which may fail."""
        return self._flag != 0

    def open(self, coding: str) -> None:
        """Expect messages; `coding` is how those are compressed that say that they are."""
        self._coding = coding
        self.between = self._limit < 0 or self._limit >= LEAST_FRAME

    def feed(self, data: bytes) -> None:
        """Take the payload of a DATA frame; raises `Violation` when it is no gRPC, and `TooLarge`."""
        self._feed(data)
        self.between = not self.in_the_middle and (self._limit < 0 or self._limit >= LEAST_FRAME)

    def fill(self, piece: memoryview) -> bool:
        """Take no more than what is `missing` of a message; returns whether it is whole now."""
        assert self._message is not None
        self._message += piece
        self._missing -= len(piece)
        if self._missing:
            return False
        self._whole(self._message)
        self.between = self._limit < 0 or self._limit >= LEAST_FRAME
        return True

    def _feed(self, data: bytes) -> None:
        if self._start:
            data, self._start = self._start + data, b""
        at, end = 0, len(data)
        if self._message is not None:
            at = min(self._missing, end)
            self.fill(memoryview(data)[:at])
        while at < end:
            if end - at < PREFIX:
                self._start = data[at:]
                return
            size = self._begin(data[at], int.from_bytes(data[at + 1 : at + PREFIX], "big"))
            at += PREFIX
            piece = data[at : at + size]
            at += len(piece)
            if len(piece) == size:
                self._whole(piece)
            else:
                self._message, self._missing = bytearray(piece), size - len(piece)

    def _begin(self, flag: int, size: int) -> int:
        if flag > 1:
            raise Violation(PROTOCOL_ERROR, "a message that is neither compressed nor not: is that gRPC?", stream=True)
        if 0 <= self._limit < size:
            raise TooLarge(size, self._limit)
        self._flag = flag
        return size

    def _whole(self, message: bytes | bytearray) -> None:
        self._message = None
        if self._flag:
            self.messages.append(self._inflated(message))
        elif isinstance(message, bytes):
            self.messages.append(message)
        else:
            self.messages.append(memoryview(message).toreadonly() if len(message) >= LARGE else bytes(message))

    def _inflated(self, message: bytes | bytearray) -> bytes:
        wbits = _INFLATE.get(self._coding)
        if wbits is None:
            raise Violation(
                PROTOCOL_ERROR, f"a message compressed as {self._coding[:20]!a}, which was not agreed", stream=True
            )
        inflating = zlib.decompressobj(wbits)
        try:
            inflated = inflating.decompress(message, self._limit + 1 if self._limit >= 0 else 0)
        except zlib.error as exc:
            raise Violation(
                PROTOCOL_ERROR, f"a compressed message that cannot be inflated ({exc})", stream=True
            ) from exc
        if 0 <= self._limit < len(inflated):
            raise TooLarge(len(inflated), self._limit)
        if not inflating.eof or inflating.unused_data:
            raise Violation(
                PROTOCOL_ERROR, "a compressed message that is cut off or goes on after its end", stream=True
            )
        return inflated


class TooLarge(Exception):
    """A message is larger than the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size} bytes; at most {limit} are taken (`max_message_bytes`)")
