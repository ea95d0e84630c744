"""Takes an answer apart as its bytes come, by llhttp. Nothing of it is bounded by the server's good will."""

from __future__ import annotations

from typing import Any

from adapter_api import ProtocolViolation

_TOO_EARLY = 16
"""The most interim answers (1xx) before the real one."""
_PIECE_BYTES = 64
"""What a piece takes beside its bytes: a server may send one byte at a time."""


class Received:
    """What has come of one answer. `feed` raises `ProtocolViolation`; its words lack whose answer it was.

    Content-Length and chunks are counted by llhttp; `rest` says how much of a body with a known length is to come, so
    that its reader need not go through here.
    """

    __slots__ = (
        "_barren", "_fruitful", "_head_bytes", "_header_count", "_interim", "_is_interim", "_max_head_bytes",
        "_max_headers", "_parser", "chunked", "complete", "head_done", "headers", "keep_alive", "length", "no_body",
        "on_body", "pieces", "reason", "size", "status", "surplus", "unread",
    )  # fmt: skip

    def __init__(self, *, head_only: bool, max_head_bytes: int, max_headers: int) -> None:
        import httptools  # late: whoever only imports adapter_kit needs none of it

        self.pieces: list[bytes] = []
        """The body so far, as far as nobody has taken it."""
        # Called for each chunk of a body: nothing of ours stands between.
        self.on_body = self.pieces.append
        self._parser: Any = httptools.HttpResponseParser(self)
        self._max_head_bytes = max_head_bytes
        self._max_headers = max_headers
        self._head_bytes = self._header_count = self._interim = self._barren = 0
        self._is_interim = self._fruitful = False
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        """By names in lower case; what comes several times is joined by commas."""
        self.no_body = head_only
        self.length: int | None = None
        self.chunked = False
        self.head_done = False
        self.complete = False
        self.keep_alive = False
        self.surplus = False
        """More came than belongs to this answer."""
        self.unread = 0
        """About how much memory `pieces` take."""
        self.size = 0
        """How many bytes of body have come through here."""

    @property
    def rest(self) -> int | None:
        """How many bytes of body are to come; `None` where only the server knows."""
        return None if self.length is None else self.length - self.size

    @property
    def readable(self) -> bool:
        """Whether a reader need not wait: some of the body is there, or its end."""
        return bool(self.pieces) or self.complete

    @property
    def until_close(self) -> bool:
        """Whether only the end of the connection ends the body: nobody can tell then whether it is whole."""
        return self.head_done and not self.complete and self.length is None and not self.chunked

    def feed(self, data: memoryview) -> None:
        """Take what came."""
        self._fruitful = False
        known = len(self.pieces)
        try:
            self._parser.feed_data(data)
        except Exception as exc:
            self._refuse(exc)
        if new := len(self.pieces) - known:
            self.count(new)
            self._barren = 0
        elif not self._fruitful and not self.complete:
            # Heads, trailers and the names of chunks: they may go on for ever without llhttp telling.
            self._barren += len(data)
            if self._barren > self._max_head_bytes:
                raise ProtocolViolation(
                    f"its {'chunks' if self.head_done else 'headers'} go on for more than {self._max_head_bytes} bytes"
                )

    def _refuse(self, exc: Exception) -> None:
        """Raise what the parser's error means, unless it is about what followed the answer."""
        import httptools

        if isinstance(exc, httptools.HttpParserUpgrade):
            raise ProtocolViolation("it switches to another protocol, which nobody asked for") from None
        if not isinstance(exc, httptools.HttpParserError):
            raise exc
        if self.complete:
            self.surplus = True
        elif isinstance(exc.__context__, ProtocolViolation):
            raise exc.__context__ from None
        elif self.head_done:
            raise ProtocolViolation(f"its answer breaks off into what is no HTTP ({exc})") from None
        else:
            raise ProtocolViolation(f"what listens there does not speak HTTP/1.1 ({exc})") from None

    def count(self, new: int) -> None:
        """Take note of the last pieces of the body, so many of them."""
        pieces = self.pieces
        size = len(pieces[-1]) if new == 1 else sum(map(len, pieces[-new:]))
        self.size += size
        self.unread += size + _PIECE_BYTES * new

    def end(self) -> bool:
        """Take note that the connection ended in order; return whether that ends the answer."""
        if self.until_close:
            self.complete = True
        return self.complete

    def forget(self) -> None:
        """Let the parser go, which holds this object."""
        self._parser = None

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise ProtocolViolation("it sends more than it was asked for")

    def on_status(self, reason: bytes) -> None:
        if len(self.reason) < 256:
            self.reason += reason.decode("latin-1")[:256]

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._head_bytes += len(name) + len(value)
        if self._header_count > self._max_headers or self._head_bytes > self._max_head_bytes:
            raise ProtocolViolation(f"it sends more than {self._max_headers} headers, or {self._max_head_bytes} bytes")
        if self.head_done:
            return  # a trailer: nobody asks for them
        key, text = name.lower().decode("latin-1"), value.decode("latin-1").strip()
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        self.status = status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 or self._interim > _TOO_EARLY:
                raise ProtocolViolation(f"it answers {status} instead of with an answer")
            self._is_interim, self.headers, self.reason = True, {}, ""
            return
        if status < 100:
            raise ProtocolViolation(f"it answers with the status {status:03}, which HTTP does not have")
        self._measure()
        self._barren = 0
        self._fruitful = True
        self.head_done = True
        if self.no_body:
            # llhttp is not told of HEAD and would wait for the body that is only announced.
            self.complete = True

    def _measure(self) -> None:
        length, coding = self.headers.get("content-length"), self.headers.get("transfer-encoding")
        if length is not None and coding is not None:
            raise ProtocolViolation("it gives both Content-Length and Transfer-Encoding, so that no end is certain")
        if coding is not None and coding.lower() != "chunked":
            raise ProtocolViolation(f"it sends its body as {coding[:40]!r}, which nobody asked for")
        self.chunked = coding is not None
        self.keep_alive = not self.no_body and self._parser.should_keep_alive()
        if self.status in (204, 304):
            self.no_body = True
        elif length is not None:
            if not (length.isascii() and length.isdigit()) or len(length) > 18:
                raise ProtocolViolation("its Content-Length is no number")
            self.length = int(length)

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        else:
            self.complete = True
