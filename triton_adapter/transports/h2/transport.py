"""A `Transport` over our own HTTP/2."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from adapter_api import (
    AdapterClosed,
    AdapterError,
    DeadlineExceeded,
    DeadlineStage,
    ProtocolViolation,
)
from adapter_api.task import TraceHeaders
from adapter_kit.arrival import Arrival
from triton_adapter.schema import Reply, Run
from triton_adapter.settings import TritonSettings
from triton_adapter.transports.base import Follow, answered_or_followed
from triton_adapter.transports.credentials import Entries
from triton_adapter.transports.grpc_way import GrpcWay
from triton_adapter.transports.h2.call import OK, Broken, Call, Given, Status
from triton_adapter.transports.h2.channel import Channel
from triton_adapter.transports.h2.frames import prefix
from triton_adapter.transports.h2.head import constant_block, literal, timeout_header
from triton_adapter.transports.h2.inbox import PREFIX, Message
from triton_adapter.transports.hung_up import hung_up
from triton_adapter.wire.first_reply import FirstReplies
from triton_adapter.wire.reply import parse_reply
from triton_adapter.wire.request import WireRequest, serialized
from triton_adapter.wire.rpcs import MODEL_INFER, MODEL_STREAM_INFER, RequestT, ResponseT, Rpc
from triton_adapter.wire.status import clean, error_for
from triton_adapter.wire.stream_reply import StreamReplyReader

Parts = list[bytes | memoryview]


class H2Transport(GrpcWay):
    """A `Transport` on HTTP/2 connections of its own, in the event loop that first uses it."""

    kind = "h2"
    """What carries the calls."""

    def __init__(self, settings: TritonSettings) -> None:
        super().__init__(settings)
        self._authority = settings.tls.server_name or self._address.target
        self._blocks: dict[str, bytes] = {}
        """What the heads of all calls of a path begin with."""
        self._entries: Entries = ()
        self._compression = settings.compression
        self._channel: Channel | None = None
        self.first_replies = FirstReplies()
        """What the first messages of streams have in common."""

    async def control(
        self,
        rpc: Rpc[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float,
        what: str = "",
        stage: DeadlineStage = "control",
    ) -> ResponseT:
        """Return the answer to one control call."""
        what = f"{what} on {self._where}" if what else self._where
        call, messages = await self._unary(rpc.path, [request.SerializeToString()], timeout_s)
        if len(messages) != 1 or not call.in_order:
            raise self._no_answer(call, messages, what, stage)
        data = messages[0]
        try:
            return rpc.response.FromString(bytes(data))
        except DecodeError as exc:
            raise ProtocolViolation(
                f"{what}: the answer to {rpc.name} does not parse; is it a server of the v2 protocol?"
            ) from exc

    async def infer(
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = (), follow: Follow | None = None
    ) -> Reply:
        """Return the one answer to an inference; with `follow`, a call whose caller is cancelled is handed over."""
        asked = self._unary(MODEL_INFER, serialized(request), timeout_s, trace)
        call, messages = await (asked if follow is None else answered_or_followed(asked, follow))
        if len(messages) != 1 or not call.in_order:
            what = f"model {request.model!r} on {self._where}"
            raise self._no_answer(call, messages, what, private=request.private(), request_id=request.request_id)
        return parse_reply(messages[0])

    async def stream(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> H2Stream:
        """Send an inference on a stream of its own."""
        message = serialized(request)
        call = self._started(MODEL_STREAM_INFER, message, timeout_s, trace, whole=False)
        if call is None:
            call = await self._call(MODEL_STREAM_INFER, message, timeout_s, trace, whole=False)
        return H2Stream(self, call, request)

    async def aclose(self) -> None:
        """Cancel every call and release the connection."""
        self._closed = True
        self._cancels.flush()
        if self._channel is not None:
            await self._channel.aclose()

    def error(
        self,
        call: Call,
        what: str,
        stage: DeadlineStage = "total",
        *,
        private: Sequence[str] = (),
        request_id: str = "",
    ) -> AdapterError | asyncio.CancelledError:
        """Return what a call that is over, and not in order, has to raise."""
        outcome = call.outcome
        hidden = (*private, *self._metadata.secrets)
        if isinstance(outcome, Status):
            return error_for(
                outcome.code, outcome.message, what=what, stage=stage, hide=hidden, request_id=request_id,
                hung_up=hung_up(self._tls),
            )  # fmt: skip
        if isinstance(outcome, Broken):
            return outcome.error(f"{what}: {clean(outcome.reason, hide=hidden)}")
        if outcome is Given.EXPIRED:
            return DeadlineExceeded(f"{what}: no answer within the time for the call", stage=stage)
        if outcome is Given.CLOSED:
            return AdapterClosed("the adapter was closed during the call", retryable=True)
        return asyncio.CancelledError()

    async def _unary(
        self, path: str, message: Parts, timeout_s: float, trace: TraceHeaders = ()
    ) -> tuple[Call, list[Message]]:
        """Return a call that is over and its answers: there is one, if it ended in order and the server is sound."""
        call = self._started(path, message, timeout_s, trace, whole=True)
        if call is None:
            call = await self._call(path, message, timeout_s, trace, whole=True)
        try:
            while (messages := call.take()) is None:  # what `more` does, without a call of its own
                await call.arrival()
        finally:
            if call.outcome is None:
                self._cancels.cancel(call)
        return call, messages

    def _no_answer(
        self,
        call: Call,
        messages: list[Message],
        what: str,
        stage: DeadlineStage = "total",
        *,
        private: Sequence[str] = (),
        request_id: str = "",
    ) -> AdapterError | asyncio.CancelledError:
        if call.in_order:
            return ProtocolViolation(f"{what}: {len(messages)} answers to a call that has one")
        return self.error(call, what, stage, private=private, request_id=request_id)

    def _started(self, path: str, message: Parts, timeout_s: float, trace: TraceHeaders, *, whole: bool) -> Call | None:
        """Return the call, if there is a connection that takes it this moment."""
        channel = self._channel
        if channel is None or self._closed or self._loop is not asyncio.get_running_loop():
            return None
        if (connection := channel.usable()) is None:
            return None
        block, parts, size = self._written(path, message, trace)
        return connection.call(block + timeout_header(timeout_s), parts, size, timeout_s=timeout_s, whole=whole)

    async def _call(self, path: str, message: Parts, timeout_s: float, trace: TraceHeaders, *, whole: bool) -> Call:
        """Return the call, once there is a connection that takes it."""
        channel = self._its_channel()
        block, parts, size = self._written(path, message, trace)
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = await channel.connection(timeout_s)
        # From here on nothing may fail or wait: whose turn has come has to take it.
        timeout_s = max(timeout_s - (loop.time() - began), 0.001)
        return connection.call(block + timeout_header(timeout_s), parts, size, timeout_s=timeout_s, whole=whole)

    def _written(self, path: str, message: Parts, trace: TraceHeaders) -> tuple[bytes, Parts, int]:
        """Return the head of a call, but for its timeout, its body, and how many bytes that has."""
        entries = self._metadata.entries()
        block = self._blocks.get(path) if entries is self._entries else None
        if block is None:
            block = self._new_block(path, entries)
        for name, value in trace:
            block += literal(name, value)
        if self._compression is not None:
            message = _compressed(message, self._compression)
        size = sum(map(len, message))
        return block, [prefix(self._compression is not None, size), *message], PREFIX + size

    def _new_block(self, path: str, entries: Entries) -> bytes:
        if entries is not self._entries:
            self._entries = entries
            self._blocks.clear()
        block = constant_block(path, self._authority, tls=self._tls is not None, fixed=entries)
        if self._compression is not None:
            block += literal("grpc-encoding", self._compression)
        self._blocks[path] = block
        return block

    def _its_channel(self) -> Channel:
        self._require_its_loop()
        if self._channel is None:
            settings = self._settings
            self._channel = Channel(
                self._address, self._tls, server_name=settings.tls.server_name,
                connect_timeout_s=settings.connect_timeout_s, limit=settings.max_message_bytes,
                explain=lambda text: error_for("UNAVAILABLE", text, what=self._where, hung_up=hung_up(self._tls)),
            )  # fmt: skip
        return self._channel


class H2Stream:
    """One ModelStreamInfer call."""

    __slots__ = ("_begun", "_call", "_model", "_private", "_reader", "_request_id", "_transport")

    def __init__(self, transport: H2Transport, call: Call, request: WireRequest) -> None:
        self._transport = transport
        self._call = call
        # Not the request: its tensors would be kept until the end.
        self._model, self._request_id, self._private = request.model, request.request_id, request.private
        self._begun = False
        self._reader: StreamReplyReader | None = None
        """What learns from one message for the next; many calls are answered by one."""

    async def read(self) -> list[Reply]:
        """Return the replies that are ready together, or an empty list when the call ended in order."""
        messages = await self._call.more()
        if messages:
            parse = self._its_reader().parse
            return [parse(bytes(message)) for message in messages]
        self._require_order()
        return []

    def take_runs(self) -> list[Reply | Run] | None:
        """Return what `read` does, with bursts of tokens as runs; `None` if there is nothing yet."""
        call = self._call
        if call.outcome is None and not call.inbox.messages:
            return None  # as `take` says, which need not be asked: most often there is nothing
        messages = call.take()
        if messages:
            if self._reader is not None:
                return self._reader.parse_all(messages)
            if len(messages) == 1 and not self._begun:
                self._begun = True
                first = self._transport.first_replies.of(self._model)
                return [first.parse(bytes(messages[0]), self._request_id)]
            return self._its_reader().parse_all(messages)
        self._require_order()
        return []

    def arrival(self) -> Arrival:
        """Return what to wait on until `take_runs` may have something."""
        return self._call.arrival()

    def _its_reader(self) -> StreamReplyReader:
        if self._reader is None:
            self._reader = StreamReplyReader(begun=self._begun)
            self._begun = True
        return self._reader

    def _require_order(self) -> None:
        """Raise what the call came to if it did not end in order."""
        if self._call.in_order:
            return
        transport = self._transport
        raise transport.error(
            self._call, f"model {self._model!r} on {transport.where}", private=self._private(),
            request_id=self._request_id,
        )  # fmt: skip

    @property
    def settled(self) -> bool:
        """Whether the call ended in order, with nothing left to read."""
        call = self._call
        return call.outcome is OK and not call.inbox.messages

    def cancel(self) -> None:
        """Tell the engine to stop, unless the call is over."""
        self._call.cancel()


def _compressed(message: Parts, coding: str) -> Parts:
    packing = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
    return [*(packing.compress(part) for part in message), packing.flush()]
