"""Over the HTTP client of adapter_kit: one exchange per call, on connections that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from urllib.parse import quote

from adapter_api import (
    AdapterClosed,
    AdapterError,
    ConfigurationError,
    DeadlineStage,
    InvalidRequest,
    ModelNotFound,
    ProtocolViolation,
    Unsupported,
)
from adapter_api.task import TraceHeaders
from adapter_kit.http import HttpAnswer, HttpClient, HttpSettings
from adapter_kit.http.exchange import Exchange
from adapter_kit.sse import SseReader
from triton_adapter.schema import Reply
from triton_adapter.settings import TritonSettings
from triton_adapter.transports.base import Follow
from triton_adapter.transports.credentials import Metadata
from triton_adapter.transports.http.failures import failure_of, tells_failure
from triton_adapter.transports.http.generate import EventReader, encode_generation
from triton_adapter.transports.http.routes import answer, is_flag, model_path, question
from triton_adapter.transports.http.stream import HttpStream
from triton_adapter.transports.http.tensors import BINARY, HEAD_LENGTH, Buffer, decode_inference, encode_inference
from triton_adapter.transports.ways import HTTP
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import SERVER_METADATA, RequestT, ResponseT, Rpc
from triton_adapter.wire.status import error_for

_JSON = ("content-type", "application/json")
_BINARY = ("content-type", "application/octet-stream")
_FAILURE_BYTES = 64 * 1024
"""Of an answer that is no success: what is read of its reason."""
_LONGEST_EVENT = 64 * 1024 * 1024
"""Bytes of a streamed reply, where `max_message_bytes` sets no limit."""
_ANY = 1 << 62


class HttpTransport:
    """A `Transport` over HTTP/1.1, whose connections are made in the event loop that first uses it."""

    traits = HTTP
    """What this way can do."""
    kind = "HTTP/1.1"
    """What carries the calls."""

    def __init__(self, settings: TritonSettings) -> None:
        address = settings.address
        self._settings = settings
        self._where = str(address)
        self._limit = settings.max_message_bytes
        self._metadata = Metadata(settings, restricted_prefix="")
        self._client = HttpClient(
            f"{'https' if address.tls else 'http'}://{address.target}{address.path}",
            settings=HttpSettings(
                tls=settings.tls, connect_timeout_s=settings.connect_timeout_s, compression=settings.compression,
                accept_compression=settings.compression is not None,
            ),
        )  # fmt: skip
        self._binary: tuple[float, bool] | None = None
        """Until when it is known, and whether the server takes binary tensors."""
        self._streams: set[HttpStream] = set()
        self._closed = False

    @property
    def where(self) -> str:
        """The engine's address, as in `http+v2://h:8000`."""
        return self._where

    @property
    def certificate_expires_at(self) -> float | None:
        """When our client certificate ends; `None` without one."""
        return self._client.certificate_expires_at

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an engine must not be quoted with."""
        return self._metadata.secrets

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
        asked = question(rpc, request)
        status, headers, body = await self._exchange(
            asked.method, asked.path, [asked.body], [_JSON] if asked.body else [], timeout_s, what=what, stage=stage
        )
        if status >= 300 and not (status == 400 and is_flag(rpc)):
            named = getattr(request, "name", ""), getattr(request, "version", "")
            raise self.error(status, headers, body, what=what, model=named[0], version=named[1])
        try:
            return answer(rpc, status, headers.get("content-type", "").lower(), body)
        except ProtocolViolation as exc:
            raise ProtocolViolation(f"{what}: {exc.message}") from None

    async def infer(
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = (), follow: Follow | None = None
    ) -> Reply:
        """Return the one answer to an inference."""
        if self._binary is None or self._binary[0] <= monotonic():
            ends = asyncio.get_running_loop().time() + timeout_s
            await self._ask_for_binary(timeout_s)
            timeout_s = max(ends - asyncio.get_running_loop().time(), 0.001)
        what = f"model {request.model!r} on {self._where}"
        parts, head_length = encode_inference(request, binary=self._binary is not None and self._binary[1])
        headers = [_JSON] if head_length is None else [_BINARY, (HEAD_LENGTH, str(head_length))]
        path = model_path(request.model, request.version, "/infer")
        status, said, body = await self._exchange(
            "POST", path, parts, [*headers, *trace], timeout_s, what=what, follow=follow
        )
        if status >= 300:
            raise self.error(
                status, said, body, what=what, request=request, model=request.model, version=request.version
            )
        return decode_inference(said, body)

    async def stream(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> HttpStream:
        """Send an inference on a stream of its own."""
        schema = request.schema
        if schema is None:
            raise Unsupported(f"model {request.model!r}: over HTTP a stream needs what the model declares")
        self._check_usable()
        what = f"model {request.model!r} on {self.where}"
        body = encode_generation(request, schema)
        self._check_size([body])
        exchange = self._client.stream(
            "POST", model_path(request.model, request.version, "/generate_stream"),
            headers=[_JSON, *self._metadata.entries(), *trace], body=body, timeout_s=timeout_s,
        )  # fmt: skip
        call = HttpStream(self, exchange, EventReader(request, schema), what, request)
        self._streams.add(call)
        return call

    async def aclose(self) -> None:
        """Cancel every call and release the connections."""
        self._closed = True
        for call in tuple(self._streams):
            call.cancel()
        await self._client.aclose()

    # For streams.

    def over(self, call: HttpStream) -> None:
        """Take note that a stream holds no connection any more."""
        self._streams.discard(call)

    def reader(self) -> SseReader:
        """Return what takes the events of a stream apart."""
        return SseReader(max_event_bytes=_LONGEST_EVENT if self._limit < 0 else self._limit)

    def unread(self, error: ProtocolViolation) -> AdapterError:
        """Return what an event comes to that the reader does not take: there is but one reason."""
        return error if self._limit < 0 else _too_large(self._limit)

    def error(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        *,
        what: str,
        request: WireRequest | None = None,
        model: str = "",
        version: str = "",
    ) -> AdapterError:
        """Return the contract's error for an answer that is no success."""
        failure = failure_of(status, headers, body, version=version)
        escaped = quote(model, safe="")
        if escaped != model and failure.code == "NOT_FOUND" and escaped in failure.text and model not in failure.text:
            return ModelNotFound(
                f"{what}: over HTTP this server takes names as a URL escapes them, so that none can be asked for that "
                "has anything but letters, digits, `-`, `.`, `_` and `~`; use gRPC"
            )
        private: Callable[[], Sequence[str]] = tuple if request is None else request.private
        error = error_for(
            failure.code, failure.text, what=what, hide=(*private(), *self.secrets),
            request_id="" if request is None else request.request_id,
        )  # fmt: skip
        if failure.retry_after_s is not None and error.retryable:
            error.retry_after_s = failure.retry_after_s
        return error

    def named(self, error: AdapterError, what: str) -> AdapterError:
        """Return an error of the client's with what it happened to; one of closing is ours."""
        if self._closed and not isinstance(error, ConfigurationError):
            return AdapterClosed("the adapter was closed during the call", retryable=True)
        if self._client.where in error.message:
            error.message = error.message.replace(self._client.where, what, 1)
            error.args = (error.message,)
        return error

    async def fail(
        self, opened: HttpAnswer, what: str, request: WireRequest, body: bytes | None = None
    ) -> AdapterError:
        """Return the contract's error for an answer that is no stream, of which the head has come, or the `body`."""
        if body is None:
            body = await self._start_of(opened)
        status = opened.status
        if status < 300:
            if not tells_failure(body):
                kind = opened.headers.get("content-type", "").partition(";")[0][:80]
                return ProtocolViolation(
                    f"{what} answers with {kind or 'nothing'} where a stream of events belongs; is it a server of the "
                    "v2 protocol, or a proxy in front of it?"
                )
            status = 500
        return self.error(
            status, opened.headers, body, what=what, request=request, model=request.model, version=request.version
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _exchange(
        self,
        method: str,
        path: str,
        body: list[Buffer],
        headers: Sequence[tuple[str, str]],
        timeout_s: float,
        *,
        what: str,
        stage: DeadlineStage = "total",
        follow: Follow | None = None,
    ) -> tuple[int, Mapping[str, str], bytes | bytearray]:
        """Return status, headers and body of an answer; of one that is no success no more than its reason."""
        self._check_usable()
        self._check_size(body)
        exchange = self._client.stream(
            method, path, headers=[*headers, *self._metadata.entries()], body=body, timeout_s=timeout_s, stage=stage
        )
        exchange.patient = follow is not None
        try:
            async with exchange as opened:
                whole = opened.status < 300
                return opened.status, opened.headers, await (self._whole(opened) if whole else self._start_of(opened))
        except AdapterError as exc:
            self._binary = None  # another server may answer next
            raise self.named(exc, what)
        except asyncio.CancelledError:
            if follow is not None and exchange.pending:
                follow(asyncio.get_running_loop().create_task(_until_answered(exchange)))
            raise

    async def _whole(self, opened: HttpAnswer) -> bytes | bytearray:
        limit = self._limit
        if limit < 0:
            return await opened.read(_ANY)
        length = opened.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise _too_large(limit)
        parts, size = [], 0
        while data := await opened.next_chunk():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise _too_large(limit)
        return b"".join(parts)

    async def _start_of(self, opened: HttpAnswer) -> bytes:
        parts, size = [], 0
        while size < _FAILURE_BYTES and (data := await opened.next_chunk()):
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    async def _ask_for_binary(self, timeout_s: float) -> None:
        """Find out whether the server takes binary tensors: it lists them among its extensions."""
        try:
            server = await self.control(
                SERVER_METADATA, v2.ServerMetadataRequest(),
                timeout_s=min(timeout_s, self._settings.control_timeout_s),
            )  # fmt: skip
            takes = BINARY in server.extensions
        except (Unsupported, ProtocolViolation):
            takes = False
        self._binary = (monotonic() + self._settings.metadata_ttl_s, takes)

    def _check_usable(self) -> None:
        if self._closed:
            raise AdapterClosed("the adapter is closed")

    def _check_size(self, body: Sequence[Buffer]) -> None:
        if 0 <= self._limit < sum(map(len, body)):
            raise _too_large(self._limit)


async def _until_answered(exchange: Exchange) -> None:
    """Wait until the engine has answered a request that nobody waits for, and throw the answer away."""
    try:
        await exchange.headers_came()
    finally:
        exchange.close()


def _too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(f"a message is larger than {limit} bytes; raise `max_message_bytes`")
