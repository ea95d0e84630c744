"""Answers that stream: what is ready together goes out in one write, silence is filled, who leaves is noticed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import Any, cast

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapter_api import End, Error, InferResponse, Output, TokenEvent
from orchestrator.config import ServerSettings
from orchestrator.http.heartbeats import Heartbeats
from orchestrator.http.presence import WhileThere
from orchestrator.http.problems import headers_of, status_of
from orchestrator.http.sse import HEARTBEAT

Batches = AsyncIterator[list[TokenEvent]]
_HEAD = (
    (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)  # fmt: skip
_SEEN = Output | End | Error | InferResponse
"""What a reader gets to see; anything else may wait for it."""


class StreamingAnswer(Response):
    """Sends the events of one task, or the responses of one inference, as server-sent events.

    The transport's back-pressure is the reader's: while it takes nothing, nothing is read from the engine either. A
    reader that leaves, or is cut off by the server because it takes nothing, ends the answer, and `close` is called.
    """

    starts_at_once = True
    """Whether the head goes out before the first event; if not, an error that comes first may have its own status."""

    def __init__(
        self,
        batches: AsyncIterator[list[Any]],
        close: Callable[[], Awaitable[None]],
        settings: ServerSettings,
        headers: dict[str, str] | None = None,
    ) -> None:
        # Of `Response` only what sends a head: it would encode a body, and tell its length.
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = [*_HEAD]
        for name, value in (headers or {}).items():
            self.raw_headers.append((name.lower().encode(), value.encode()))
        self._batches = batches
        self._close = close
        self._heartbeat_s = settings.heartbeat_s
        self._started = False
        self._ended = False
        self._path = ""
        self._heartbeats: Heartbeats | None = None

    @abstractmethod
    def encode(self, batch: list[Any]) -> bytes:
        """Return the frames of events that are ready together."""

    def is_last(self, batch: list[Any]) -> bool:
        """Return whether nothing follows a batch that was encoded: then the answer ends with its write."""
        return isinstance(batch[-1], End | Error)

    def refusal(self, error: Error) -> dict[str, Any] | None:
        """Return the body of an answer with the error's own status, for an error before anything was sent.

        `None` sends it as an event like any other.
        """
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._path = scope["path"]
        try:
            with WhileThere(receive) as there:
                beats = self._heartbeats = Heartbeats(self._heartbeat_s, partial(self._beat, send), there.fail)
                try:
                    if self.starts_at_once:
                        await self.start(send)
                    await self._pump(send)
                finally:
                    beats.stop()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._close()
            raise
        # Cut short, that is by the client, or ended: nobody cancels this task meanwhile but who stops the server.
        await self._close()

    async def start(self, send: Send) -> None:
        """Send the head, if that was not done yet."""
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _pump(self, send: Send) -> None:
        unshown: list[Any] = []
        given: Any = self._batches
        async with aclosing(given) as batches:
            async for batch in batches:
                if not self._started:
                    # `started` and figures are nothing that anybody sees: a refusal after them still has its status.
                    unshown += batch
                    for event in batch:
                        if isinstance(event, _SEEN):
                            break
                    else:
                        continue
                    batch, unshown = unshown, []
                    last = batch[-1]
                    if isinstance(last, Error) and not any(
                        isinstance(event, Output | InferResponse) for event in batch
                    ):
                        body = self.refusal(last)
                        if body is not None:
                            await self._refuse(send, last, body)
                            return
                elif unshown:  # a heartbeat sent the head meanwhile
                    batch, unshown = unshown + batch, []
                frames = self.encode(batch)
                self._ended = self.is_last(batch)
                await self._send(send, frames)
        if not self._ended:
            self._ended = True
            await self._send(send, b"")

    async def _send(self, send: Send, body: bytes) -> None:
        beats = self._heartbeats
        assert beats is not None
        if beats.beating is not None:
            await beats.sent()
        beats.busy = True
        try:
            if not self._started:
                await self.start(send)
            await send({"type": "http.response.body", "body": body, "more_body": not self._ended})
        finally:
            beats.busy, beats.since = False, perf_counter()

    async def _beat(self, send: Send) -> None:
        if not self._started:
            await self.start(send)
        await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})

    async def _refuse(self, send: Send, error: Error, body: dict[str, Any]) -> None:
        self._started = True
        status = status_of(error.code, self._path)
        answer = Response(msgspec.json.encode(body), status, headers_of(error, self._path), "application/json")
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def gather(receive: Receive, batches: Batches) -> list[TokenEvent]:
    """Return all events of a task; cut short, without a terminal, when the client leaves before its end."""
    events: list[TokenEvent] = []
    with WhileThere(receive):
        async with aclosing(cast(Any, batches)) as open_batches:
            async for batch in open_batches:
                events += batch
    return events
