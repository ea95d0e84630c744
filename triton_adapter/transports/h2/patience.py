"""How much a peer may send that moves nothing: frames for streams that are over, and frames that say nothing."""

from __future__ import annotations

from time import monotonic

from triton_adapter.transports.h2.frames import ENHANCE_YOUR_CALM, STREAM_CLOSED, Violation

_MAX_IDLE_FRAMES = 10_000
"""Frames in a row that move nothing (empty DATA, PING, SETTINGS, PRIORITY, unknown ones) before the peer is told to
calm down; CVE-2019-9512 to 9518 are of this kind."""
_WITHIN_S = 60.0
"""In how long they have to come: a server that asks every second whether we live may do so for days."""
_FRAMES_OF_AN_END = 3
"""What may come of a stream beside data: its head, its trailers or a RST_STREAM, an empty frame."""


class Patience:
    """With one peer."""

    __slots__ = ("_idle_frames", "_idle_since", "_late_bytes", "_late_frames")

    def __init__(self) -> None:
        self._idle_frames, self._idle_since = 0, 0.0
        self._late_bytes, self._late_frames = 0, 0
        """What may still come of streams that we have reset: data, and what else ends a stream."""

    def moved(self) -> None:
        """Something came that was of use."""
        self._idle_frames = 0

    def idle(self) -> None:
        """A frame came that moves nothing; raises `Violation` when there were too many in a row."""
        if not self._idle_frames:
            self._idle_since = monotonic()
        self._idle_frames += 1
        if self._idle_frames > _MAX_IDLE_FRAMES:
            if monotonic() - self._idle_since > _WITHIN_S:
                self._idle_frames = 0
                return
            raise Violation(ENHANCE_YOUR_CALM, f"{_MAX_IDLE_FRAMES} frames in a row that move nothing")

    def expect_late(self, size: int) -> None:
        """A stream was reset by us, of which so many bytes may be on their way."""
        self._late_bytes += size
        self._late_frames += _FRAMES_OF_AN_END

    def late_data(self, size: int) -> None:
        """Data came of a stream that is over; raises `Violation` when it is more than was on its way."""
        self._late_bytes -= size
        if self._late_bytes < 0:
            raise Violation(STREAM_CLOSED, "data on a stream that was over")
        if not size:
            self.late()

    def late(self) -> None:
        """A frame came of a stream that is over: one that we have reset may end in the meantime by itself."""
        if self._late_frames:
            self._late_frames -= 1
        else:
            self.idle()
