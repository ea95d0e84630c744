"""Over grpcio's asyncio API. The only module that imports grpc.

One call per inference: cancel, deadline and status belong to the RPC. ModelStreamInfer is opened as a call that sends
one message and half-closes, which is all a task needs and saves two trips through grpc's poller thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from adapter_api import (
    AdapterClosed,
    AdapterError,
    DeadlineExceeded,
    DeadlineStage,
    ProtocolViolation,
)
from adapter_api.task import TraceHeaders
from triton_adapter.schema import Reply
from triton_adapter.settings import TritonSettings
from triton_adapter.transports.base import Follow, answered_or_followed
from triton_adapter.transports.grpc_way import GrpcWay
from triton_adapter.transports.hung_up import hung_up
from triton_adapter.wire.reply import parse_reply
from triton_adapter.wire.request import WireRequest, serialize
from triton_adapter.wire.rpcs import MODEL_INFER, MODEL_STREAM_INFER, RequestT, ResponseT, Rpc
from triton_adapter.wire.status import clean, error_for
from triton_adapter.wire.stream_reply import StreamReplyReader

_READY = grpc.ChannelConnectivity.READY
_SETTLED = (_READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
_CLOSE_S = 0.25
_AFTERWARDS_S = 0.005
_CALL_TASKS = ("_AioCall._handle_status_once_received", "UnaryUnaryCall._invoke")
"""The tasks in which grpc waits for the end of a stream, and of a unary call."""
_COMPRESSION = {None: None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class GrpcTransport(GrpcWay):
    """A `Transport` over one gRPC channel, made in the event loop that first uses it."""

    def __init__(self, settings: TritonSettings, *, why: str = "") -> None:
        super().__init__(settings)
        self.kind = f"grpcio ({why})" if why else "grpcio"
        """What carries the calls, and why."""
        self._current: _Channel | None = None
        self._retired: set[_Channel] = set()

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
        what = f"{what} on {self.where}" if what else self.where
        data = await self._unary(rpc.path, request.SerializeToString(), timeout_s, what=what, stage=stage)
        try:
            return rpc.response.FromString(data)
        except DecodeError as exc:
            raise ProtocolViolation(
                f"{what}: the answer to {rpc.name} does not parse; is it a server of the v2 protocol?"
            ) from exc

    async def infer(
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = (), follow: Follow | None = None
    ) -> Reply:
        """Return the one answer to an inference."""
        what = f"model {request.model!r} on {self.where}"
        sending = self._unary(
            MODEL_INFER, serialize(request), timeout_s, what=what, trace=trace, private=request.private,
            request_id=request.request_id,
        )  # fmt: skip
        return parse_reply(await (sending if follow is None else answered_or_followed(sending, follow)))

    async def stream(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> GrpcStream:
        """Send an inference on a stream of its own."""
        loop = asyncio.get_running_loop()
        message, ends = serialize(request), loop.time() + timeout_s
        channel = self._channel()
        await self._connected(channel, timeout_s)
        call = channel.stream(message, timeout=max(ends - loop.time(), 0.001), metadata=self._call_metadata(trace))
        self._follow(channel, call)
        return GrpcStream(self, call, f"model {request.model!r} on {self.where}", request)

    async def aclose(self) -> None:
        """Cancel every call and release the connection."""
        self._closed = True
        self._cancels.flush()
        channels = [*self._retired, *([self._current] if self._current else [])]
        self._current = None
        self._retired.clear()
        for channel in channels:
            for call in tuple(channel.calls):
                _stop(call)
        try:
            await _last_words()
        finally:
            for channel in channels:
                await channel.grpc.close()
        connecting = [channel.connecting for channel in channels if channel.connecting is not None]
        if connecting:
            await asyncio.wait(connecting, timeout=_CLOSE_S)
        # A stream's status is not always the last that is heard of it.
        await asyncio.sleep(_AFTERWARDS_S)

    async def _unary(
        self,
        path: str,
        message: bytes,
        timeout_s: float,
        *,
        what: str,
        stage: DeadlineStage = "total",
        trace: TraceHeaders = (),
        private: Callable[[], Sequence[str]] = tuple,
        request_id: str = "",
    ) -> bytes:
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        channel = self._channel()
        await self._connected(channel, timeout_s)
        call = channel.unary(path)(message, timeout=max(ends - loop.time(), 0.001), metadata=self._call_metadata(trace))
        self._follow(channel, call)
        try:
            await _over(call, loop)
            data: bytes = await call
        except grpc.aio.AioRpcError as exc:
            raise self.error(exc, what, stage, private=private(), request_id=request_id)
        except asyncio.CancelledError:
            # A channel that is closed under a call cancels it: that is not the caller's task being cancelled.
            task = asyncio.current_task()
            if self._closed and (task is None or not task.cancelling()):
                raise AdapterClosed("the adapter was closed during the call", retryable=True) from None
            raise
        finally:
            if not call.done():
                self._cancels.cancel(_UnaryCall(call))
        return data

    def error(
        self,
        exc: grpc.aio.AioRpcError,
        what: str,
        stage: DeadlineStage = "total",
        *,
        private: Sequence[str] = (),
        request_id: str = "",
    ) -> AdapterError:
        """Return the contract's error for a failed call; `exc` is its cause, unless that quotes something private."""
        text, hidden = exc.details() or "", (*private, *self._metadata.secrets)
        error = error_for(
            exc.code().name,
            text,
            what=what,
            stage=stage,
            hide=hidden,
            request_id=request_id,
            hung_up=hung_up(self._tls),
        )
        quotes = clean(text, hide=hidden) != clean(text)
        error.__cause__ = None if quotes else exc
        error.__suppress_context__ = True
        return error

    def _follow(self, channel: _Channel, call: Any) -> None:
        """Count a call until it is over; a retired channel goes with its last call."""
        channel.calls.add(call)

        def over(call: Any) -> None:
            channel.calls.discard(call)
            _let_go(call)
            if not channel.calls and channel in self._retired and self._loop is not None:
                self._retired.discard(channel)
                channel.closing = self._loop.create_task(channel.grpc.close())

        call.add_done_callback(over)

    def _call_metadata(self, trace: TraceHeaders) -> tuple[tuple[str, str], ...]:
        metadata = self._metadata.entries()
        return (*metadata, *trace) if trace else metadata

    def _channel(self) -> _Channel:
        self._require_its_loop()
        if self._current is not None and self._tls is not None and self._tls.refresh():
            # New certificates: calls under way finish on the old connection, new ones use the new files.
            if self._current.calls:
                self._retired.add(self._current)
            else:
                self._current.closing = asyncio.get_running_loop().create_task(self._current.grpc.close())
            self._current = None
        if self._current is None:
            self._current = _Channel(self._make())
        return self._current

    def _make(self) -> Any:
        settings, address = self._settings, self._address
        limit = settings.max_message_bytes
        options: list[tuple[str, int | str]] = [
            ("grpc.max_send_message_length", limit),
            ("grpc.max_receive_message_length", limit),
            # Retries are ours: grpc would repeat a call without telling.
            ("grpc.enable_retries", 0),
            # No connection or back-off shared with other adapters of this process.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # Also the time for one attempt to connect: a little longer than ours, which names the stage.
            ("grpc.min_reconnect_backoff_ms", int(settings.connect_timeout_s * 1000) + 1000),
        ]
        if address.loopback:
            options.append(("grpc.enable_http_proxy", 0))
        compression = _COMPRESSION[settings.compression]
        if self._tls is None:
            return grpc.aio.insecure_channel(address.target, options, compression)
        if settings.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
            options.append(("grpc.default_authority", settings.tls.server_name))
        credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.certificate)
        return grpc.aio.secure_channel(address.target, credentials, options, compression)

    async def _connected(self, channel: _Channel, timeout_s: float) -> None:
        """Wait until the channel is connected or has failed to; then the call itself says why, at once."""
        if channel.grpc.get_state(try_to_connect=True) is _READY:
            return
        limit = min(timeout_s, self._settings.connect_timeout_s)
        # One task waits for all, and goes on when they do not: the answer to a question that was given up would come in
        # a later event loop.
        if channel.connecting is None or channel.connecting.done():
            channel.connecting = asyncio.get_running_loop().create_task(channel.settled())
        settled, _ = await asyncio.wait({channel.connecting}, timeout=limit)
        if not settled:
            raise DeadlineExceeded(
                f"{self.where}: no connection within {limit:g} s; is it a gRPC server, and is the way to it open?",
                stage="connect",
            )
        if self._closed:
            raise AdapterClosed("the adapter was closed during the call", retryable=True)


@dataclass(frozen=True)
class _UnaryCall:
    """What a `CancelLimiter` takes."""

    call: Any

    def cancel(self) -> None:
        _stop(self.call)


async def _last_words() -> None:
    """Wait until grpc has told this event loop how its calls ended.

    A call that is cancelled is over at once for us, and a little later for grpc: if the loop is closed by then, grpc's
    news of it fails in whichever loop of the process listens next, since all share one poller.
    """
    ending = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") in _CALL_TASKS]
    if ending:
        await asyncio.wait(ending, timeout=_CLOSE_S)


def _stop(call: Any) -> None:
    """Cancel a call; unlike with `call.cancel`, grpc's task for it goes on until there is no more to hear of it."""
    # Not public: without it the call is cancelled all the same.
    stop = getattr(call, "_cancel", None)
    if stop is None:
        call.cancel()
    else:
        stop("cancelled by the client")


def _let_go(call: Any) -> None:
    """Let a call go that was left early: it holds its own iterator, which holds it, and both the connection.

    The socket of a channel that is closed would stay open until the garbage collector comes by.
    """
    # Not public: without it, it takes that long.
    if getattr(call, "_message_aiter", None) is not None:
        call._message_aiter = None


async def _over(call: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Wait until a call has its status.

    Awaiting the call itself would replace the exception of a cancelled scope by a new one, which the scope then does
    not know for its own (anyio tells them apart by their message).
    """
    future: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        if not future.done():
            future.set_result(None)

    call.add_done_callback(wake)
    await future


class _Channel:
    """A grpc channel, its calls, and how many of them are under way."""

    def __init__(self, channel: Any) -> None:
        self.grpc = channel
        self.calls: set[Any] = set()
        self.connecting: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[None] | None = None
        self.stream = channel.unary_stream(MODEL_STREAM_INFER)
        self._unary: dict[str, Any] = {}

    async def settled(self) -> None:
        """Wait until the channel is connected, has failed to, or is closed."""
        # A channel that is closed meanwhile says so in different ways; the call that follows has the reason.
        with suppress(grpc.aio.UsageError, AssertionError, RuntimeError):
            state = self.grpc.get_state(try_to_connect=True)
            while state not in _SETTLED:
                await self.grpc.wait_for_state_change(state)
                state = self.grpc.get_state(try_to_connect=True)

    def unary(self, path: str) -> Any:
        if path not in self._unary:
            self._unary[path] = self.grpc.unary_unary(path)
        return self._unary[path]


class GrpcStream:
    """One ModelStreamInfer call."""

    __slots__ = ("_call", "_next", "_parse", "_private", "_request_id", "_transport", "_what")

    def __init__(self, transport: GrpcTransport, call: Any, what: str, request: WireRequest) -> None:
        self._transport = transport
        self._call = call
        # Iterating costs less per message than `call.read`, which asks each time whether the call is over.
        self._next = call.__aiter__().__anext__
        self._parse = StreamReplyReader().parse
        self._what = what
        # Not the request: its tensors would be kept until the end.
        self._request_id, self._private = request.request_id, request.private

    async def read(self) -> list[Reply]:
        """Return the next reply in a list, or an empty list when the call ended in order."""
        try:
            return [self._parse(await self._next())]
        except StopAsyncIteration:
            return await self._end()
        except grpc.aio.AioRpcError as exc:
            raise self._error(exc)

    async def _end(self) -> list[Reply]:
        """Return no reply if the call ended in order. An iterator tells but once what went wrong: the call goes on."""
        try:
            await self._call.read()
        except grpc.aio.AioRpcError as exc:
            raise self._error(exc)
        return []

    def _error(self, exc: grpc.aio.AioRpcError) -> AdapterError:
        return self._transport.error(exc, self._what, private=self._private(), request_id=self._request_id)

    def cancel(self) -> None:
        """Tell the engine to stop, unless the call is over."""
        self._call.cancel()
