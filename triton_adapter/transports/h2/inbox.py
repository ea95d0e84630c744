"""What comes in on one stream: the messages of its DATA, and how much more it may send."""

from __future__ import annotations

import zlib

from triton_adapter.transports.h2.frames import LEAST_FRAME, PROTOCOL_ERROR, Violation

PREFIX = 5
"""Bytes in front of each message: whether it is compressed, and its length (gRPC, "Length-Prefixed-Message")."""
_INFLATE = {"gzip": 31, "deflate": 15}
"""What `zlib` has to be told for the two codings."""


class Inbox:
    """The messages of one stream, whole ones and the one that is still coming.

    `limit` is the largest message in bytes, before and after it is inflated; below 0 there is none. What is kept of a
    message is what came of it, never what its length promises.
    """

    __slots__ = ("_coding", "_flag", "_limit", "_missing", "_pieces", "_start", "between", "messages")

    def __init__(self, limit: int) -> None:
        self.messages: list[bytes] = []
        """Whole messages that nobody has taken yet."""
        self.between = False
        """The next byte begins a message, and one that fills a frame is not too large: it may be put into `messages`
        without `feed`, if it is not compressed."""
        self._coding = "identity"
        self._limit = limit
        self._pieces: list[bytes] | None = None
        self._missing = 0
        self._flag = 0
        self._start = b""
        """A message's prefix that is not whole yet."""

    @property
    def in_the_middle(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._pieces is not None or bool(self._start)

    @property
    def missing(self) -> int:
        """Bytes that are still to come of the message that has begun."""
        return self._missing

    def open(self, coding: str) -> None:
        """Expect messages; `coding` is how those are compressed that say that they are."""
        self._coding = coding
        self.between = self._limit < 0 or self._limit >= LEAST_FRAME

    def feed(self, data: bytes) -> None:
        """Take the payload of a DATA frame; raises `Violation` when it is no gRPC, and `TooLarge`."""
        self._feed(data)
        self.between = not self.in_the_middle and (self._limit < 0 or self._limit >= LEAST_FRAME)

    def _feed(self, data: bytes) -> None:
        if self._start:
            data, self._start = self._start + data, b""
        at, end = 0, len(data)
        while at < end:
            if self._pieces is None:
                if end - at < PREFIX:
                    self._start = data[at:]
                    return
                self._begin(data[at], int.from_bytes(data[at + 1 : at + PREFIX], "big"))
                at += PREFIX
            assert self._pieces is not None
            piece = data[at : at + self._missing] if at or self._missing < end else data
            at += len(piece)
            self._missing -= len(piece)
            self._pieces.append(piece)
            if not self._missing:
                self._whole()
        if self._pieces is not None and not self._missing:
            self._whole()

    def _begin(self, flag: int, size: int) -> None:
        if flag > 1:
            raise Violation(PROTOCOL_ERROR, "a message that is neither compressed nor not: is that gRPC?", stream=True)
        if 0 <= self._limit < size:
            raise TooLarge(size, self._limit)
        self._flag, self._missing, self._pieces = flag, size, []

    def _whole(self) -> None:
        pieces, self._pieces = self._pieces, None
        assert pieces is not None
        message = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.messages.append(self._inflated(message) if self._flag else message)

    def _inflated(self, message: bytes) -> bytes:
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
