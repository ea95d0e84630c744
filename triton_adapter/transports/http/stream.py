"""One streamed inference: events in, replies out, and the connection closed when nobody wants the rest."""

from __future__ import annotations

import asyncio
from typing import Protocol

from adapter_api import AdapterError, ProtocolViolation, StreamIncomplete
from adapter_kit.http import HttpAnswer
from adapter_kit.http.exchange import Exchange
from adapter_kit.sse import SseEvent, SseReader
from triton_adapter.schema import Reply
from triton_adapter.transports.http.failures import EVENTS
from triton_adapter.transports.http.generate import EventReader
from triton_adapter.wire.request import WireRequest


class Home(Protocol):
    """What a stream needs of the transport that it belongs to."""

    def reader(self) -> SseReader:
        """Return what takes the events of a stream apart."""

    def unread(self, error: ProtocolViolation) -> AdapterError:
        """Return what an event comes to that the reader does not take."""

    def named(self, error: AdapterError, what: str) -> AdapterError:
        """Return an error of the client's with what it happened to."""

    async def fail(
        self, opened: HttpAnswer, what: str, request: WireRequest, body: bytes | None = None
    ) -> AdapterError:
        """Return the contract's error for an answer that is no stream, of which the head has come, or the `body`."""

    def over(self, call: HttpStream) -> None:
        """Take note that a stream holds no connection any more."""


class HttpStream:
    """One call of `generate_stream`. Triton answers with its first event, so sending and waiting are two things."""

    __slots__ = (
        "_answer", "_events", "_exchange", "_failure", "_opening", "_over", "_owes_error", "_read_event", "_request",
        "_transport", "_what",
    )  # fmt: skip

    def __init__(
        self, transport: Home, exchange: Exchange, events: EventReader, what: str, request: WireRequest
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._read_event = events.reply
        self._what = what
        self._request = request
        self._answer: HttpAnswer | None = None
        self._events = transport.reader()
        self._failure: BaseException | None = None
        self._over = False
        self._owes_error = False
        """Whether the status is that of an error, of which no event has told yet."""
        self._opening = asyncio.get_running_loop().create_task(exchange.__aenter__())
        # Seen here, so that asyncio does not complain when nobody asks any more.
        self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def read(self) -> list[Reply]:
        """Return the replies that have come, waiting for the first; none when the call ended in order."""
        if self._failure is not None:
            raise self._failure
        if self._over:
            return []
        try:
            answer = self._answer or await self._opened()
            while data := await answer.next_chunk():
                if events := self._fed(data):
                    replies = self._replies(events)
                    if self._owes_error and replies[0].error is None:
                        raise await self._transport.fail(answer, self._what, self._request, data)
                    self._owes_error = False
                    return replies
            if self._owes_error:
                raise await self._transport.fail(answer, self._what, self._request, b"")
            if self._events.unfinished or not answer.delimited:
                raise StreamIncomplete(f"{self._what} ended its stream where nothing says that the task is done")
        except AdapterError as exc:
            raise self._failed(self._transport.named(exc, self._what)) from None
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._over = True
        self._leave()
        # The end of the body is the end of the answer: there is no other sign.
        return [Reply({}, final=True)]

    def cancel(self) -> None:
        """Close the connection, unless the call is over: the engine sees its client go."""
        if self._over or self._failure is not None:
            return
        self._failure = asyncio.CancelledError()
        opening = self._opening
        if not opening.done():
            opening.cancel()
        elif not opening.cancelled() and opening.exception() is None:
            opening.result().abort()
        self._leave()

    async def _opened(self) -> HttpAnswer:
        answer = await self._opening
        self._answer = answer
        if not answer.headers.get("content-type", "").lower().startswith(EVENTS):
            # Of a proxy, or of a server that does not stream; with a success, too, as a page to log in has.
            raise await self._transport.fail(answer, self._what, self._request)
        # An error as the first event has the status of an error, and more events may follow it.
        self._owes_error = answer.status >= 300
        return answer

    def _replies(self, events: list[SseEvent]) -> list[Reply]:
        """Return what events say, as far as they are replies: the failure that cuts them short is read next."""
        replies: list[Reply] = []
        try:
            for event in events:
                replies.append(self._read_event(event.data, event.event))
        except ProtocolViolation as exc:
            error = self._failed(exc)
            if not replies:
                raise error from None
        return replies

    def _fed(self, data: bytes) -> list[SseEvent]:
        try:
            return self._events.feed(data)
        except ProtocolViolation as exc:
            raise self._transport.unread(exc) from None

    def _failed(self, error: AdapterError) -> BaseException:
        if self._failure is None:
            self._failure = error
            self._leave()
        return self._failure

    def _leave(self) -> None:
        self._transport.over(self)
        self._exchange.close()
