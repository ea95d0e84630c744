"""All calls of one socket: an asyncio protocol that speaks HTTP/2 as a client.

`data_received` walks once what has come. A frame that carries just one whole message, as a token's does, is handled
there and then; everything else goes through `_frame`. Whatever a peer does that the RFC forbids is a `Violation`, which
ends the stream or, with a GOAWAY, the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from adapter_api import ConnectionLost, InvalidRequest, ProtocolViolation
from adapter_api.errors import ConnectFailed
from triton_adapter.transports.h2 import frames as f
from triton_adapter.transports.h2.blocks import Blocks, unpadded
from triton_adapter.transports.h2.call import OK, WINDOW, Broken, Call, Given, Outcome, reset
from triton_adapter.transports.h2.frames import Violation
from triton_adapter.transports.h2.head import MAX_HEADER_LIST, HeadReader
from triton_adapter.transports.h2.inbox import PREFIX, TooLarge
from triton_adapter.transports.h2.patience import Patience
from triton_adapter.transports.h2.peer_settings import settings_of
from triton_adapter.transports.h2.sender import Sender
from triton_adapter.transports.h2.streams import Streams

_WINDOW = 16 * 1024 * 1024
"""Bytes of all streams that may be on their way. What each may leave unread is bounded by its own window, so this one
is opened again as soon as bytes arrive: a consumer that stalls must not hold up the others."""
_GOODBYE_S, _SAID_S = 1.0, 0.05
"""How long a peer may take to read what we wrote before we close, and to close too where it has all of it: over TLS
asyncio waits for the peer's close_notify, which grpc's own server never sends."""


class Connection(asyncio.Protocol):
    """One connection. `ready` is done once the peer has said its SETTINGS, or has failed to.

    Args:
        on_change: Called when a call may be made that could not before, or none can any more.
        limit: The largest message that is taken, in bytes; below 0 there is none.
    """

    def __init__(self, *, limit: int, on_change: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.draining = False
        """No further call may be made on it: the peer said GOAWAY, or it is being closed, or is out of numbers."""
        self._sender = Sender(self._loop)
        self._patience = Patience()
        self._streams = Streams(
            self._sender, self._patience, limit=limit, on_room=on_change, on_last=self._close_if_draining,
            on_silence=self._fell_silent,
        )  # fmt: skip
        self._outbox = self._streams.outbox
        self._heads = HeadReader()
        self._rest = b""
        """The beginning of a frame that is not whole yet."""
        self._blocks = Blocks()
        self._received, self._granted = 0, f.FIRST_WINDOW
        self._broke = False
        self._farewell = ""
        """What the peer said with its GOAWAY."""

    # -- calls --------------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> dict[int, Call]:
        """The calls that are not over, by the numbers of their streams."""
        return self._streams.calls

    @property
    def room(self) -> int:
        """How many more calls the peer takes at once; below 0 when it now takes fewer than there are."""
        streams = self._streams
        return 0 if self._sender.is_behind else streams.most - len(streams.calls)

    @property
    def why_no_room(self) -> str:
        """What keeps the peer from taking a call, in words for whoever waited in vain."""
        return "the server reads nothing of what is sent" if self._sender.is_behind else "the server takes few at once"

    def call(
        self, block: bytes, parts: Sequence[bytes | memoryview], size: int, *, timeout_s: float, whole: bool
    ) -> Call:
        """Begin a call: its head, then one message of `size` bytes in `parts` (its prefix included), then our end of
        the stream.

        Only when `draining` is false and there is `room`.
        """
        call = self._streams.begin(block, parts, size, timeout_s=timeout_s, whole=whole)
        if call.id > f.LAST_STREAM - 2:
            self.draining = True  # no further stream can be named (5.1.1)
        return call

    def retire(self) -> None:
        """Make no further call; close once the last one is over."""
        self.draining = True
        if not self._streams.calls:
            self.close()

    def close(self) -> None:
        """Say goodbye and close. Calls under way end as `Given.CLOSED`."""
        self.draining = True
        for call in tuple(self._streams.calls.values()):
            self._streams.give_up(call, Given.CLOSED)
        self._bye(f.NO_ERROR, "")

    def abort(self) -> bool:
        """Close at once, with nothing more sent; returns whether there was a connection yet."""
        if self._sender.transport is None:
            return False
        self._sender.transport.abort()
        return True

    # -- the socket ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sender.transport = cast(asyncio.Transport, transport)
        ours = {f.HEADER_TABLE_SIZE: 0, f.ENABLE_PUSH: 0, f.INITIAL_WINDOW_SIZE: WINDOW,
                f.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST}  # fmt: skip
        self._granted = _WINDOW
        more = f.window_update(0, _WINDOW - f.FIRST_WINDOW)
        self._sender.transport.write(b"".join((f.PREFACE, f.settings(ours), more)))

    def pause_writing(self) -> None:
        self._outbox.paused = self._sender.paused = True

    def resume_writing(self) -> None:
        self._outbox.paused = self._sender.paused = False
        self._sender.flush()
        try:
            self._outbox.flush()
        except Violation as exc:  # pragma: no cover - what is flushed was checked when it came
            self._broken(exc)
        self._on_change()

    def connection_lost(self, exc: Exception | None) -> None:
        was_ready = self.ready.done()
        reason = f"the connection broke ({_reason(exc)})" if exc is not None else "the server closed the connection"
        self._end(Broken(ConnectionLost, f"{reason}{self._farewell} before the answer was complete"))
        if not was_ready:
            self.ready.set_exception(exc or ConnectionResetError("Socket closed"))
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_change()

    def data_received(self, data: bytes) -> None:
        if self._broke:
            return  # TLS hands on what it had when it was told to close
        if self._rest:
            data = self._rest + data
        streams = self._streams
        streams.heard += 1
        calls, read_head, read_prefix, heads = streams.calls, f.read_head, f.read_prefix, self._heads.known
        woken: list[Call] = []
        streams.woken = woken
        at, end, count, plain = 0, len(data), 0, not self._blocks.begun
        try:
            while end - at >= f.FRAME_HEAD:
                size_and_kind, flags, stream = read_head(data, at)
                size, kind = size_and_kind >> 8, size_and_kind & 0xFF
                start = at + f.FRAME_HEAD
                stop = start + size
                if stop > end:
                    if size > f.LEAST_FRAME:
                        raise Violation(f.FRAME_SIZE_ERROR, f"a frame of {size} bytes; {f.LEAST_FRAME} were agreed")
                    break
                at = stop
                # A token: DATA without flags that is one message, of a call whose head came before.
                if kind == 0 and flags == 0 and size > PREFIX and plain and (call := calls.get(stream)) is not None:
                    count += size
                    inbox = call.inbox
                    if inbox.between and size <= f.LEAST_FRAME and read_prefix(data, start) == (0, size - PREFIX):
                        call.received += size
                        if call.received > call.granted:
                            raise Violation(f.FLOW_CONTROL_ERROR, "more on a stream than its window")
                        messages = inbox.messages
                        if not messages:
                            woken.append(call)
                        messages.append(data[start + PREFIX : stop])
                        continue
                    if not inbox.missing or size > inbox.missing or size > f.LEAST_FRAME or inbox.compressed:
                        count -= size
                    else:  # one of the many pieces of a large message, which cannot be wrong
                        call.received += size
                        if call.received > call.granted:
                            raise Violation(f.FLOW_CONTROL_ERROR, "more on a stream than its window")
                        if call.take_piece(memoryview(data)[start:stop]):
                            woken.append(call)
                        continue
                # The head of an answer, and its trailers, as they are of most calls.
                elif kind == 1 and plain and (call := calls.get(stream)) is not None:
                    head = heads.get(data[start:stop])
                    if head is not None:
                        if flags == f.END_HEADERS and head.begins and call.begin(head):
                            continue
                        if flags == f.END_HEADERS | f.END_STREAM and head.ends_well and call.whole_so_far:
                            streams.over(call, OK)
                            continue
                if size > f.LEAST_FRAME:
                    raise Violation(f.FRAME_SIZE_ERROR, f"a frame of {size} bytes; {f.LEAST_FRAME} were agreed")
                if count:
                    self._took(count)
                    count = 0
                self._frame(kind, flags, stream & f.LAST_STREAM, data[start:stop], woken)
                plain = not self._blocks.begun
            self._rest = data[at:] if at < end else b""
            if count:
                self._took(count)
            if self._outbox.may_go and self._outbox.flush():
                self._patience.moved()
        except Violation as exc:
            self._broken(exc)
        finally:  # also where something fails that is no `Violation`: of calls that are over nobody would hear again
            streams.woken = None
            if woken:
                self._let_go_on(woken)

    def eof_received(self) -> bool:
        return False

    # -- frames -------------------------------------------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, woken: list[Call]) -> None:
        if not self.ready.done():
            if kind != f.SETTINGS or flags & f.ACK or stream:
                raise Violation(f.PROTOCOL_ERROR, "something other than SETTINGS first: is that HTTP/2?")
            self._take_settings(payload)
            self.ready.set_result(None)
            return
        if self._blocks.begun and kind != f.CONTINUATION:
            raise Violation(f.PROTOCOL_ERROR, "another frame inside a header block")
        try:
            if kind == f.DATA:
                self._take_data(flags, stream, payload, woken)
            elif kind == f.HEADERS:
                self._take_headers(flags, stream, payload)
            elif kind == f.CONTINUATION:
                self._take_continuation(flags, stream, payload)
            elif kind == f.RST_STREAM:
                self._take_reset(stream, payload, woken)
            elif kind == f.WINDOW_UPDATE:
                self._take_credit(stream, payload)
            elif kind == f.PUSH_PROMISE:
                raise Violation(f.PROTOCOL_ERROR, "a PUSH_PROMISE, which was not allowed")
            else:
                self._take_of_connection(kind, flags, stream, payload)
        except Violation as exc:
            if not exc.stream:
                raise
            call = self._streams.find(stream)
            if call is None:
                self._patience.late()  # of a call that is over nothing can be wrong
            else:
                self._streams.reset(call, exc.code, Broken(ProtocolViolation, f"the server sent {exc.reason}"))

    def _take_of_connection(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Take one of the frames that move no call."""
        self._patience.idle()
        if kind == f.PRIORITY:
            if len(payload) != 5:
                raise Violation(f.FRAME_SIZE_ERROR, "a PRIORITY of another size than 5", stream=True)
            if not stream:
                raise Violation(f.PROTOCOL_ERROR, "a PRIORITY of no stream")
        elif kind in (f.SETTINGS, f.PING, f.GOAWAY) and stream:
            raise Violation(f.PROTOCOL_ERROR, "a frame of the connection on a stream")
        elif kind == f.SETTINGS:
            if not flags & f.ACK:
                self._take_settings(payload)
            elif payload:
                raise Violation(f.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS that says something")
        elif kind == f.PING:
            self._take_ping(flags, payload)
        elif kind == f.GOAWAY:
            self._take_goaway(payload)
        # Every other kind is unknown, and ignored (4.1).

    def _take_data(self, flags: int, stream: int, payload: bytes, woken: list[Call]) -> None:
        self._count(len(payload))
        call = self._streams.find(stream)
        if call is None:
            self._patience.late_data(len(payload))
            return
        call.received += len(payload)
        if call.received > call.granted:
            raise Violation(f.FLOW_CONTROL_ERROR, "more on a stream than its window")
        data = payload
        if flags & f.PADDED:
            data = unpadded(payload)
            padding = len(payload) - len(data)
            call.received -= padding
            call.granted -= padding
        if data:
            self._patience.moved()
        elif not flags & f.END_STREAM:
            self._patience.idle()
        try:
            call.take_data(data)
        except TooLarge as exc:
            self._streams.reset(call, f.CANCEL, Broken(InvalidRequest, f"{exc}"))
            return
        if flags & f.END_STREAM:
            self._streams.over(call, call.ended_without_a_status())
        elif call.inbox.messages:
            woken.append(call)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        block = self._blocks.begin(flags, stream, payload)
        if block is not None:
            self._take_block(flags, stream, block)

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        whole = self._blocks.go_on(flags, stream, payload)
        if whole is not None:
            self._take_block(whole[0], stream, whole[1])
        elif not payload:
            self._patience.idle()

    def _take_block(self, flags: int, stream: int, block: bytes) -> None:
        # Decoded even for a stream that is over: a decoder has to see all blocks in order.
        head = self._heads.read(block)
        call = self._streams.find(stream)
        if call is None:
            self._patience.late()
            return
        last = bool(flags & f.END_STREAM)
        outcome = call.take_head(head, last=last)
        if outcome is None:
            if not call.answered:
                self._patience.idle()  # an interim answer; of others there is one per call
        elif last:
            self._streams.over(call, outcome)
        else:
            self._streams.reset(call, f.CANCEL, outcome)

    def _take_reset(self, stream: int, payload: bytes, woken: list[Call]) -> None:
        if len(payload) != 4:
            raise Violation(f.FRAME_SIZE_ERROR, "a RST_STREAM of another size than 4")
        if (call := self._streams.find(stream)) is None:
            self._patience.late()
        else:
            self._streams.over(call, reset(int.from_bytes(payload, "big")))

    def _take_credit(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Violation(f.FRAME_SIZE_ERROR, "a WINDOW_UPDATE of another size than 4")
        if stream:
            self._streams.find(stream)
        if not self._outbox.credit(stream, int.from_bytes(payload, "big") & f.LARGEST_WINDOW):
            self._patience.idle()

    def _take_settings(self, payload: bytes) -> None:
        for key, value in settings_of(payload):
            if key == f.INITIAL_WINDOW_SIZE:
                self._outbox.resize(value)
            elif key == f.MAX_FRAME_SIZE:
                self._outbox.largest_frame = value
            elif key == f.MAX_CONCURRENT_STREAMS:
                self._streams.most = value
        self._sender.owe(f.SETTINGS_ACK)
        self._on_change()

    def _take_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Violation(f.FRAME_SIZE_ERROR, "a PING of another size than 8")
        if not flags & f.ACK:
            self._sender.owe(f.ping(payload))

    def _take_goaway(self, payload: bytes) -> None:
        if len(payload) < 8:
            raise Violation(f.FRAME_SIZE_ERROR, "a GOAWAY of less than 8 bytes")
        last = int.from_bytes(payload[:4], "big") & f.LAST_STREAM
        self.draining = True
        if code := int.from_bytes(payload[4:8], "big"):
            self._farewell = f" with {f.error_name(code)}"
        for call in [call for call in self._streams.calls.values() if call.id > last]:
            reason = "the server is closing this connection and did nothing of the call (GOAWAY)"
            self._streams.over(call, Broken(ConnectFailed, reason))
        if not self._streams.calls:
            self._bye(f.NO_ERROR, "")
        self._on_change()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _let_go_on(self, woken: list[Call]) -> None:
        """Let the readers of calls go on: at once, since the loop has nothing else to tell us before they ask."""
        if asyncio.current_task(self._loop) is not None:  # who hands us bytes is no callback of the loop's
            for call in woken:
                call.go_on_soon()
            return
        self._sender.gather()
        for call in woken:
            call.go_on()
        self._sender.flush()

    def _took(self, size: int) -> None:
        """Count what came of messages."""
        self._patience.moved()
        self._count(size)

    def _count(self, size: int) -> None:
        """Count bytes against the connection's window, and open it again."""
        self._received += size
        if self._received > self._granted:
            raise Violation(f.FLOW_CONTROL_ERROR, "more on the connection than its window")
        open_ = self._granted - self._received
        if open_ <= _WINDOW // 2:
            self._granted += _WINDOW - open_
            self._sender.send(f.window_update(0, _WINDOW - open_))

    def _broken(self, exc: Violation) -> None:
        """End the connection because the peer broke the protocol, or never spoke it."""
        self._broke = True
        if not self.ready.done():
            self.ready.set_exception(NotHttp2(exc.reason))
        self._end(Broken(ProtocolViolation, f"the server broke HTTP/2: it sent {exc.reason}"))
        self._bye(exc.code, exc.reason)
        self._on_change()

    def _end(self, outcome: Outcome) -> None:
        """Let all calls be over."""
        self.draining = True
        self._streams.end(outcome)

    def _close_if_draining(self) -> None:
        if self.draining:
            self._bye(f.NO_ERROR, "")

    def _fell_silent(self) -> None:
        """Make no further call here: a router may have forgotten the connection, which TCP notices in a quarter of an
        hour. Those under way go on, in case that it has not."""
        self.retire()
        self._on_change()

    def _bye(self, code: int, reason: str) -> None:
        transport = self._sender.transport
        if transport is None or transport.is_closing():
            return
        self._sender.send_now((f.goaway(0, code, reason),))
        transport.close()
        # A peer that reads nothing would keep the rest of what we wrote, and the socket, for ever.
        self._loop.call_later(_GOODBYE_S if transport.get_write_buffer_size() else _SAID_S, transport.abort)


class NotHttp2(ConnectionError):
    """What answers does not speak HTTP/2."""


def _reason(exc: Exception) -> str:
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
