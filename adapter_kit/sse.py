"""Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) out of bytes. No I/O.

    reader = SseReader()
    async for data in answer.chunks():
        for event in reader.feed(data):
            ...  # event.data is b'{"choices": …}' or b"[DONE]"

Bytes may be cut anywhere: inside a character, a line end, the byte order mark. Data stays bytes, so that JSON is parsed
without being decoded first; an event that the stream does not finish is not one, as the standard has it (`unfinished`).
"""

from __future__ import annotations

import msgspec

from adapter_api import ProtocolViolation

_LF, _CR, _COLON = b"\n\r:"
_DATA = b"data: "
_NEXT = b"\n\ndata: "
_MARK = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 4 * 1024 * 1024
"""The most that one event may have, its line ends and field names included."""


class SseEvent(msgspec.Struct, gc=False):
    """One event. `data` has its lines joined by line feeds, in UTF-8 as far as the server keeps to that."""

    data: bytes
    event: str = "message"
    """The name of its kind, from the field `event`."""
    id: str = ""
    """The last id that the stream gave, with this event or before it."""

    @property
    def text(self) -> str:
        """`data` as text; what is no UTF-8 is replaced by U+FFFD."""
        return self.data.decode("utf-8", "replace")


class SseReader:
    """Takes the bytes of one stream, in order, and returns the events that are whole.

    Args:
        max_event_bytes: The most that an event, or a line, may have; so much is kept of one that is not whole.
    """

    __slots__ = ("_after_cr", "_id", "_start", "_tail", "max_event_bytes", "retry_ms")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.max_event_bytes = max_event_bytes
        self.retry_ms: int | None = None
        """After how long the server wants to be asked again, from the field `retry`; `None` if it did not say."""
        self._tail = bytearray()  # since the last blank line, with \n for every line end
        self._after_cr = False
        self._id = ""
        self._start: bytes | None = b""  # as long as it may be the beginning of a byte order mark

    @property
    def last_event_id(self) -> str:
        """What a client that connects again sends as Last-Event-ID."""
        return self._id

    @property
    def unfinished(self) -> bool:
        """Whether an event has begun and not ended: at the end of a stream it was cut. A comment is none."""
        return bool(self._tail) and self._tail[0] != _COLON

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that `data` completes.

        Raises:
            ProtocolViolation: An event or a line is larger than it may be. The reader is of no use after that.
        """
        if self._start is not None:
            data = self._without_mark(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data[-1] == _CR
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        tail = self._tail
        if tail:
            searched = len(tail) - 1
            tail += data
            if tail.find(b"\n\n", searched) < 0:
                self._trim(b"\n" in data)
                return []
            data = bytes(tail)
            tail.clear()
        # What engines send, nearly always: one event of one line of data.
        if data[:6] == _DATA and data.find(b"\n") == len(data) - 2 <= self.max_event_bytes and data[-1] == _LF:
            return [SseEvent(data[6:-2], "message", self._id)]
        *blocks, rest = data.split(b"\n\n")
        if rest:
            tail += rest
            self._trim(b"\n" in rest)
        if len(data) > self.max_event_bytes and any(len(block) > self.max_event_bytes for block in blocks):
            raise self._too_long()
        known = self._id
        # Of an engine that is ahead: events of one line of data each. Told by two counts, and made in one go.
        if blocks and data[:6] == _DATA and data.count(_NEXT) == len(blocks) - (rest[:6] != _DATA):
            if data.count(b"\n") - rest.count(b"\n") == 2 * len(blocks):
                return [SseEvent(block[6:], "message", known) for block in blocks]
        return [event for block in blocks if (event := self._event(block)) is not None]

    def _event(self, block: bytes) -> SseEvent | None:
        """Return the event that some whole lines make, `None` if they make none."""
        kind, lines = "", []
        for line in block.split(b"\n"):
            name, colon, value = line.partition(b":")
            if colon and value[:1] == b" ":
                value = value[1:]
            if name == b"data":
                lines.append(value)
            elif name == b"event":
                kind = value.decode("utf-8", "replace")
            elif name == b"id":
                if b"\0" not in value:
                    self._id = value.decode("utf-8", "replace")
            elif name == b"retry" and value.isdigit() and len(value) < 16:
                self.retry_ms = int(value)
        data = b"\n".join(lines)
        # A single empty line of data is data, too: the standard's buffer holds its line feed then.
        return SseEvent(data, kind or "message", self._id) if lines else None

    def _trim(self, has_line: bool) -> None:
        """Drop comments from what is kept, which some servers send for hours without a blank line, and see its size."""
        tail = self._tail
        if has_line:
            while tail and tail[0] in (_COLON, _LF) and (end := tail.find(b"\n")) >= 0:
                del tail[: end + 1]
        if len(tail) > self.max_event_bytes:
            raise self._too_long()

    def _too_long(self) -> ProtocolViolation:
        self._tail.clear()
        return ProtocolViolation(f"an event of the stream is larger than {self.max_event_bytes} bytes")

    def _without_mark(self, data: bytes) -> bytes:
        start = (self._start or b"") + data
        if len(start) < len(_MARK) and _MARK.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_MARK)
