"""One call: what has come of it, and whoever waits for more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from urllib.parse import unquote_to_bytes

from adapter_api import AdapterError, Overloaded, PermissionDenied, ProtocolViolation, StreamIncomplete
from adapter_api.errors import ConnectFailed
from adapter_api.wheel import Slot
from adapter_kit.arrival import Arrival
from triton_adapter.transports.h2.frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INADEQUATE_SECURITY,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Violation,
    error_name,
)
from triton_adapter.transports.h2.head import Head
from triton_adapter.transports.h2.inbox import Inbox, Message

WINDOW = 256 * 1024
"""Bytes of a stream that may be on their way or unread: what a consumer that stalls costs at most."""
_LARGE_WINDOW = 8 * 1024 * 1024
"""The same while somebody waits for a message that is known to be larger than the window."""

# https://github.com/grpc/grpc/blob/master/doc/statuscodes.md, in the order of their numbers.
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
_OF_HTTP = {
    400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED", 429: "UNAVAILABLE",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Status:
    """How the server ended a call; `code` is the gRPC name."""

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A call that ended without a status: the error it is, and why."""

    error: type[AdapterError]
    reason: str


class Given(Enum):
    """A call that we ended ourselves."""

    UP = "cancelled"
    CLOSED = "the transport was closed"
    EXPIRED = "its time was up"


Outcome = Status | Broken | Given
OK = Status("OK")


class Link(Protocol):
    """What a call needs of its connection."""

    def give_up(self, call: Call, why: Given) -> None:
        """End a call from our side."""

    def grant(self, stream: int, increment: int) -> None:
        """Let the peer send so many bytes more."""


class Call:
    """One stream of a connection, with one reader. Made by `Connection.call`.

    `outcome` is set once, when the call is over; messages that came before it are still to be taken.
    """

    __slots__ = (
        "_arrival", "_connection", "_head", "began", "granted", "heard", "id", "inbox", "outcome", "received", "slot",
        "whole",
    )  # fmt: skip

    def __init__(self, connection: Link, stream: int, limit: int, *, whole: bool) -> None:
        self._connection = connection
        self.id = stream
        self.inbox = Inbox(limit)
        self.whole = whole
        """Its reader waits for the end, and takes all then."""
        self.outcome: Outcome | None = None
        self.granted = WINDOW
        """Bytes that the peer may have sent by now."""
        self.received = 0
        """Bytes of DATA without their padding, which is taken off what is granted."""
        self.slot: Slot | None = None
        """Where its deadline stands."""
        self.began, self.heard = 0.0, 0
        """When it was made, by the wheel's clock, and how often something had come on the connection by then."""
        self._head: Head | None = None
        self._arrival: Arrival | None = None

    async def more(self) -> list[Message]:
        """Return the messages that are there, waiting for the first, or, for a call that is `whole`, for its end.

        None means that the call is over: see `outcome`.
        """
        while (messages := self.take()) is None:
            await self.arrival()
        return messages

    def take(self) -> list[Message] | None:
        """Return what `more` returns, if it is there."""
        inbox = self.inbox
        if self.outcome is None and (self.whole or not inbox.messages):
            return None
        messages = inbox.messages
        if messages:
            inbox.messages = []
            if self.granted - self.received <= WINDOW // 2:
                self.grant()
        return messages

    def arrival(self) -> Arrival:
        """Return what to wait on until `take` may have something; for the one reader, who awaits it at once."""
        left = self.granted - self.received
        if left <= WINDOW // 2 or self.inbox.missing > left:
            self.grant()  # padding and empty frames use it up too
        arrival = self._arrival
        if arrival is None:
            arrival = self._arrival = Arrival(asyncio.get_running_loop())
        return arrival

    def cancel(self) -> None:
        """Tell the engine to stop, unless the call is over; nobody hears any more of it. May be called often."""
        if self.outcome is None:
            self.inbox.messages = []
            self._connection.give_up(self, Given.UP)

    def close(self) -> None:
        """As `cancel`, because the transport is closed."""
        self._connection.give_up(self, Given.CLOSED)

    @property
    def in_order(self) -> bool:
        """Whether the server has ended the call, and well."""
        return self.outcome is OK

    @property
    def answered(self) -> bool:
        """Whether the head of the answer came."""
        return self._head is not None

    def time_is_up(self) -> None:
        """End the call: its deadline is over."""
        self.slot = None
        self._connection.give_up(self, Given.EXPIRED)

    # -- the connection's side ----------------------------------------------------------------------------------------

    def unwatch(self) -> None:
        """Have no deadline any more."""
        if self.slot is not None:
            self.slot.discard(self)
            self.slot = None

    def go_on(self) -> None:
        """Let the reader go on here and now, if it waits for what there is. Only where no task is running."""
        arrival = self._arrival
        if arrival is not None and not (self.whole and self.outcome is None):
            arrival.go_on()

    def go_on_soon(self) -> None:
        """Let the reader go on in the next round of the event loop, if it waits."""
        if self._arrival is not None:
            self._arrival.go_on_soon()

    def take_data(self, payload: bytes) -> None:
        """Take the payload of a DATA frame; raises `Violation`, or `TooLarge`."""
        if self._head is None:
            raise Violation(PROTOCOL_ERROR, "data before the head of an answer", stream=True)
        self.inbox.feed(payload)
        self._grant_what_is_missing()

    def take_piece(self, piece: memoryview) -> bool:
        """Take a part of the message that has begun; returns whether it is whole now."""
        whole = self.inbox.fill(piece)
        self._grant_what_is_missing()
        return whole

    def _grant_what_is_missing(self) -> None:
        waits = self._arrival is not None and not self._arrival.done()
        waits_for_more = waits and (self.inbox.missing or not self.inbox.messages)
        if waits_for_more and self.granted - self.received <= WINDOW // 2:
            self.grant()

    def grant(self) -> None:
        """Let the peer send on: what was there has been taken, or somebody waits for a message that needs more."""
        wanted = max(WINDOW, min(self.inbox.missing, _LARGE_WINDOW))
        increment = wanted - (self.granted - self.received)
        if increment > 0 and self.outcome is None:
            self.granted += increment
            self._connection.grant(self.id, increment)

    def begin(self, head: Head) -> bool:
        """Take a head that `begins` an answer, if it is the first."""
        if self._head is not None:
            return False
        self._head = head
        self.inbox.open(head.get("grpc-encoding", "identity"))
        return True

    @property
    def whole_so_far(self) -> bool:
        """Whether an answer has begun that promised nothing, and no message of it is cut off."""
        head, inbox = self._head, self.inbox
        # Between two messages nothing is cut off; where none may be put in unseen, the inbox has to be asked.
        return head is not None and head.begins and (inbox.between or not inbox.in_the_middle)

    def take_head(self, head: Head, *, last: bool) -> Outcome | None:
        """Take a header list; returns how the call ended when it is the last. Raises `Violation`."""
        if self._head is None:
            status = head.get(":status", "")
            if not (len(status) == 3 and status.isascii() and status.isdigit()):
                raise Violation(PROTOCOL_ERROR, "an answer without an HTTP status", stream=True)
            if status.startswith("1") and not last:
                return None  # an interim answer (RFC 9110, 15.2)
            self._head = head
            if "grpc-status" not in head and (refused := _refused(int(status), head)) is not None:
                return refused
            self.inbox.open(head.get("grpc-encoding", "identity"))
        elif ":status" in head or not last:
            raise Violation(PROTOCOL_ERROR, "a second head within an answer", stream=True)
        return self._ended(head) if last else None

    def ended_without_a_status(self) -> Outcome:
        """Return how a call ended whose data was the last of it."""
        # Caddy sometimes makes of a head that is the whole answer a head and an empty DATA.
        return self._ended({} if self._head is None or self.received else self._head)

    def _ended(self, trailers: dict[str, str]) -> Outcome:
        length = None if self._head is None else self._head.get("content-length")
        if length is not None and length.lstrip("0") != str(self.received).lstrip("0"):
            raise Violation(PROTOCOL_ERROR, "another number of bytes than its content-length says", stream=True)
        number = trailers.get("grpc-status")
        if number is None:
            return Broken(StreamIncomplete, "the call ended without a status")
        text = trailers.get("grpc-message", "")
        if "%" in text or not text.isascii():  # some servers send their UTF-8 as it is
            text = unquote_to_bytes(text.encode("latin-1")).decode(errors="replace")
        known = number.isascii() and number.isdigit() and len(number) < 3 and int(number) < len(CODES)
        code = CODES[int(number)] if known else "UNKNOWN"
        if code != "OK":
            return Status(code, text)
        if self.inbox.in_the_middle:
            return Broken(StreamIncomplete, "the call ended in the middle of a message")
        return OK


def reset(code: int) -> Outcome:
    """Return what a call comes to that the peer has reset (7)."""
    if code == REFUSED_STREAM:
        return Broken(ConnectFailed, "the server refused the call before it did anything of it (REFUSED_STREAM)")
    if code == ENHANCE_YOUR_CALM:
        return Broken(Overloaded, "the server asks for fewer calls (ENHANCE_YOUR_CALM)")
    if code == CANCEL:
        return Status("CANCELLED", "the server cancelled the call")
    if code == INADEQUATE_SECURITY:
        return Broken(PermissionDenied, "the server wants a safer connection (INADEQUATE_SECURITY)")
    if code == NO_ERROR:
        return Broken(StreamIncomplete, "the server closed the call without a status")
    return Status("INTERNAL", f"the server reset the call ({error_name(code)})")


def _refused(status: int, head: dict[str, str]) -> Outcome | None:
    """Return what an answer comes to that is no gRPC: one of a proxy, or of another server."""
    kind = head.get("content-type", "")
    if status != 200:
        said = f"HTTP status {status}" + (f" with {kind[:40]}" if kind else "")
        return Status(_OF_HTTP.get(status, "UNKNOWN"), f"{said} instead of a gRPC answer: is a proxy in front?")
    if not kind.startswith("application/grpc"):
        return Broken(ProtocolViolation, f"an answer that is no gRPC (content-type {kind[:40]!a})")
    return None
