"""The calls of one connection: which there are, how one begins, and how each ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapter_api.wheel import wheel
from triton_adapter.transports.h2 import frames as f
from triton_adapter.transports.h2.call import Call, Given, Outcome
from triton_adapter.transports.h2.frames import Violation
from triton_adapter.transports.h2.outbox import Outbox
from triton_adapter.transports.h2.patience import Patience
from triton_adapter.transports.h2.sender import Sender

_UNLIMITED = 1 << 32
"""MAX_CONCURRENT_STREAMS as long as the peer has not said it (6.5.2)."""
_SILENT_S = 1.0
"""How long nothing at all may come while a call waits, before its end in vain is the connection's fault too."""


class Streams:
    """See above.

    Args:
        sender: Sends what the peer is told.
        patience: Hears what may still come of calls that are over.
        limit: The largest message that is taken, in bytes; below 0 there is none.
        on_room: Called when a call is over, and another one may have waited for that.
        on_last: Called when a call is over, and no other is left.
        on_silence: Called when a call has waited in vain and nothing at all came meanwhile, of this call or another.
    """

    def __init__(
        self,
        sender: Sender,
        patience: Patience,
        *,
        limit: int,
        on_room: Callable[[], None],
        on_last: Callable[[], None],
        on_silence: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._patience = patience
        self._limit = limit
        self._on_room = on_room
        self._on_last = on_last
        self._on_silence = on_silence
        self.heard = 0
        """How often something came on the connection; whoever reads its socket counts."""
        self._wheel = wheel()
        self._next = 1
        self.outbox = Outbox(sender.send_now)
        self.calls: dict[int, Call] = {}
        """Those that are not over, by the numbers of their streams."""
        self.most = _UNLIMITED
        """How many the peer takes at once."""
        self.woken: list[Call] | None = None
        """Calls that have something for their readers, while what came is still being walked; whoever walks lets them
        go on."""

    def begin(
        self, block: bytes, parts: Sequence[bytes | memoryview], size: int, *, timeout_s: float, whole: bool
    ) -> Call:
        """Begin a call: its head, then one message of `size` bytes in `parts` (its prefix included), then our end of
        the stream."""
        stream = self._next
        self._next += 2
        call = self.calls[stream] = Call(self, stream, self._limit, whole=whole)
        call.slot = self._wheel.after(timeout_s, call)
        call.began, call.heard = self._wheel.now(), self.heard
        outbox, sender = self.outbox, self._sender
        if len(block) <= f.LEAST_FRAME and outbox.takes(size):
            data = f.whole_call(stream, block, parts, size)
            # One that is alone need not wait for others of this round, which would cost it a round.
            if len(self.calls) == 1 and sender.idle:
                sender.send_now((data,))
            else:
                sender.send(data)
        else:
            sender.send(f.headers(stream, block, largest=outbox.largest_frame))
            outbox.send(stream, parts)
        return call

    def find(self, stream: int) -> Call | None:
        """Return the call of a stream, or `None` if it is over; raises `Violation` for a stream that never was."""
        call = self.calls.get(stream)
        if call is None and (not stream & 1 or stream >= self._next):
            raise Violation(f.PROTOCOL_ERROR, "a frame of a stream that was never opened")
        return call

    def give_up(self, call: Call, why: Given) -> None:
        """End a call from our side, and tell the peer; nothing happens to one that is over."""
        if call.outcome is not None:
            return
        self.reset(call, f.CANCEL, why)
        if call.heard == self.heard and why is not Given.CLOSED and self._wheel.now() - call.began >= _SILENT_S:
            self._on_silence()

    def grant(self, stream: int, increment: int) -> None:
        """Let the peer send so many bytes more on a stream."""
        self._sender.send(f.window_update(stream, increment))

    def over(self, call: Call, outcome: Outcome) -> None:
        """Let a call be over, because the peer said so."""
        del self.calls[call.id]
        if self.outbox.is_sending(call.id):
            # It answered before it had heard us out (8.1): what is left would not be read.
            self.outbox.drop(call.id)
            self._sender.send(f.rst_stream(call.id, f.NO_ERROR))
        self._let_go(call, outcome)

    def reset(self, call: Call, code: int, outcome: Outcome) -> None:
        """Let a call be over, and tell the peer."""
        del self.calls[call.id]
        self.outbox.drop(call.id)
        self._patience.expect_late(max(call.granted - call.received, 0))
        if self._sender.is_open:
            self._sender.send(f.rst_stream(call.id, code))
        self._let_go(call, outcome)

    def end(self, outcome: Outcome) -> None:
        """Let all calls be over, because the connection is."""
        calls, self.calls = tuple(self.calls.values()), {}
        for call in calls:
            call.unwatch()
            self.outbox.drop(call.id)
            call.outcome = outcome
            call.go_on_soon()

    def _let_go(self, call: Call, outcome: Outcome) -> None:
        call.outcome = outcome
        self._patience.moved()
        if call.slot is not None:
            call.unwatch()
        if self.woken is None:
            call.go_on_soon()
        else:
            self.woken.append(call)
        if self.most != _UNLIMITED:
            self._on_room()
        if not self.calls:
            self._on_last()
