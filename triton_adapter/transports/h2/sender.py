"""What goes out on a socket: gathered over a round of the event loop, or at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from triton_adapter.transports.h2.frames import ENHANCE_YOUR_CALM, Violation

_MAX_OWED = 1 << 20
"""Bytes of answers to PINGs and SETTINGS that may wait for a peer that reads nothing."""
_MAX_HELD = 256 * 1024
"""Bytes that may wait for a peer that reads nothing, before no more calls are begun."""
_LARGE = 32 * 1024
"""Bytes of a part that costs less as a write of its own than as a copy."""


class Sender:
    """Nothing is sent before there is a `transport`, nor while it is `paused`."""

    __slots__ = ("_flushing", "_held_bytes", "_loop", "_owed_bytes", "_unsent", "is_behind", "paused", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unsent: list[bytes | memoryview] = []
        self._flushing = False
        self._held_bytes = 0
        """Of `_unsent`, what came while the socket took no more."""
        self._owed_bytes = 0
        """Of `_unsent`, what the peer has made us say."""
        self.transport: asyncio.Transport | None = None
        self.paused = False
        """The socket takes no more for now."""
        self.is_behind = False
        """The peer reads too little for more to be said to it."""

    @property
    def is_open(self) -> bool:
        """Whether there is somebody to send to."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._unsent

    def send(self, data: bytes) -> None:
        """Send bytes with all others of this round of the event loop."""
        self._unsent.append(data)
        if self.paused:
            self._held_bytes += len(data)
            self.is_behind = self._held_bytes > _MAX_HELD
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def send_now(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send parts, and hear at once whether the socket takes more. Joining the large ones would copy them."""
        for part in parts:
            if len(part) >= _LARGE:
                self.flush()
                self._unsent.append(part)
                self.flush()
            else:
                self._unsent.append(part)
        self.flush()

    def gather(self) -> None:
        """Keep what is sent from now on for a `flush` that is about to come."""
        self._flushing = True

    def owe(self, data: bytes) -> None:
        """Answer the peer; raises `Violation` if it has us answer and does not read."""
        self._owed_bytes += len(data)
        if self._owed_bytes > _MAX_OWED:
            raise Violation(ENHANCE_YOUR_CALM, "what asks for answers, and reads none of them")
        self.send(data)

    def flush(self) -> None:
        """Send what waits, if that may be sent."""
        self._flushing = False
        if not self._unsent or self.paused or not self.is_open:
            return
        assert self.transport is not None
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent, self._owed_bytes, self._held_bytes, self.is_behind = [], 0, 0, False
        self.transport.write(data)
