"""What goes out: the bodies of calls, cut to what the peer's windows and frames allow, one stream after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from triton_adapter.transports.h2.frames import (
    DATA,
    END_STREAM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    LARGEST_WINDOW,
    LEAST_FRAME,
    PROTOCOL_ERROR,
    Violation,
    frame_head,
)

_AT_ONCE = 512 * 1024
"""Bytes that are handed to the socket together; the copy of a body, which is else only referred to, is never larger."""


class Body:
    """What is still to be sent of one call's request."""

    __slots__ = ("credit", "parts", "stream")

    def __init__(self, stream: int, parts: Iterable[bytes | memoryview]) -> None:
        self.stream = stream
        self.parts: deque[memoryview] = deque(memoryview(part).cast("B") for part in parts if len(part))
        self.credit = 0
        """What its window is above what each stream may send at first: a change of that one is a change of all."""


class Outbox:
    """The bodies of a connection that wait for the peer's credit (6.9) or for the socket.

    Args:
        write: Sends what is in the parts.
    """

    def __init__(self, write: Callable[[Sequence[bytes | memoryview]], None]) -> None:
        self._write = write
        self._waiting: dict[int, Body] = {}
        self._window = FIRST_WINDOW
        self.first_window = FIRST_WINDOW
        """What a new stream may send at once."""
        self.largest_frame = LEAST_FRAME
        self.paused = False
        """The socket takes no more for now."""
        self.may_go = False
        """Something came that may let a part of a body out: see `flush`."""
        self._most_credit = 0
        """No body has more."""

    def takes(self, size: int) -> bool:
        """Return whether a body of so many bytes may go at once, in one frame; it counts as sent then."""
        if size > LEAST_FRAME or size > self._window or size > self.first_window or self.paused:
            return False
        self._window -= size
        return True

    def send(self, stream: int, parts: Sequence[bytes | memoryview]) -> None:
        """Send as much of a body as may be sent now; the rest follows by itself."""
        self._waiting[stream] = Body(stream, parts)
        self.flush()

    def is_sending(self, stream: int) -> bool:
        """Return whether a part of the body waits."""
        return stream in self._waiting

    def drop(self, stream: int) -> None:
        """Send no more of a body: the stream is over."""
        self._waiting.pop(stream, None)

    def credit(self, stream: int, increment: int) -> bool:
        """Take a WINDOW_UPDATE; returns whether its stream may send now. What that lets out goes with the next `flush`.

        Raises:
            Violation: It is none, or makes a window too large (6.9.1).
        """
        if increment == 0:
            raise Violation(PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing", stream=stream != 0)
        if stream == 0:
            self._window += increment
            _require_lawful(self._window, stream=False)
            self.may_go = True
            return False
        body = self._waiting.get(stream)
        if body is None:
            return False
        body.credit += increment
        self._most_credit = max(self._most_credit, body.credit)
        window = self.first_window + body.credit
        _require_lawful(window, stream=True)
        self.may_go = True
        return window > 0 and self._window > 0

    def resize(self, window: int) -> None:
        """Take a new INITIAL_WINDOW_SIZE, which also changes what streams may send that are under way (6.9.2)."""
        self.first_window = window
        self.may_go = True
        if window + self._most_credit > LARGEST_WINDOW:
            self._most_credit = max((body.credit for body in self._waiting.values()), default=0)
            _require_lawful(window + self._most_credit, stream=False)

    def flush(self) -> bool:
        """Send what may be sent: a frame of each stream in turn, so that no large body holds up the others.

        Returns whether that was anything. It looks at all bodies: once for all that came together.
        """
        sent = self.may_go = False
        while self._waiting and not self.paused and self._window > 0:
            frames: list[bytes | memoryview] = []
            room = _AT_ONCE
            while room > 0 and self._window > 0:
                before = room
                for body in tuple(self._waiting.values()):
                    room -= self._add_frame(body, frames)
                    if room <= 0 or self._window <= 0:
                        break
                if room == before:
                    break
            if not frames:
                break
            self._write(frames)
            sent = True
        return sent

    def _add_frame(self, body: Body, frames: list[bytes | memoryview]) -> int:
        """Add a frame of a body; returns the bytes of it."""
        allowed = min(self.largest_frame, self.first_window + body.credit, self._window, _AT_ONCE)
        if allowed <= 0:
            return 0
        size, pieces = 0, []
        parts = body.parts
        while parts and size < allowed:
            part = parts[0]
            if len(part) <= allowed - size:
                pieces.append(parts.popleft())
            else:
                part, parts[0] = part[: allowed - size], part[allowed - size :]
                pieces.append(part)
            size += len(pieces[-1])
        body.credit -= size
        self._window -= size
        frames.append(frame_head(size, DATA, 0 if parts else END_STREAM, body.stream))
        frames += pieces
        del self._waiting[body.stream]
        if parts:
            self._waiting[body.stream] = body  # at the end of the line
        return size + 9


def _require_lawful(window: int, *, stream: bool) -> None:
    if window > LARGEST_WINDOW:
        raise Violation(FLOW_CONTROL_ERROR, "a window above 2³¹-1", stream=stream)
