"""Answers that are none: of proxies, of foreign servers, cut, garbled, endless. Each is an error and soon forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from adapter_api import AdapterError, End, Error, InferRequest, TaskRequest, Tensor, Token
from adapter_api.testing import collect, text_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.schema import ModelSchema
from triton_adapter.testing import FakeTriton
from triton_adapter.transports.http.transport import HttpTransport
from triton_adapter.wire.request import WireRequest

pytestmark = pytest.mark.anyio

METADATA = b'{"name":"m","versions":["1"],"platform":"python","inputs":[],"outputs":[]}'
CONFIG = (
    b'{"name":"m","backend":"python","max_batch_size":0,"model_transaction_policy":{"decoupled":%s},'
    b'"input":[{"name":"text_input","data_type":"TYPE_STRING","dims":[1]}],'
    b'"output":[{"name":"text_output","data_type":"TYPE_STRING","dims":[-1]}]}'
)
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def whole(body: bytes, status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    more = "".join(f"{header}\r\n" for header in headers)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunked(*events: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return SSE + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + end


GOOD = chunked(b'data: {"text_output":"fine"}\n\n')


@asynccontextmanager
async def scripted(
    answers: list[bytes | Callable[[asyncio.StreamWriter], Any]], *, decoupled: bool = True
) -> AsyncIterator[str]:
    """Run a server that answers inferences from a script, and every question about the model in order."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((line for line in head.lower().split("\r\n") if line.startswith("content-length:")), "")
                await reader.readexactly(int(length.partition(":")[2] or 0))
                path = head.split(" ", 2)[1]
                if path.endswith(("/infer", "/generate_stream")):
                    answer = answers.pop(0)
                    if callable(answer):
                        await answer(writer)
                        return
                    writer.write(answer)
                    if b"Connection: close" in answer or not answer.endswith((b"0\r\n\r\n", b"}")):
                        return
                elif path.endswith("/config"):
                    writer.write(whole(CONFIG % (b"true" if decoupled else b"false")))
                else:
                    writer.write(whole(METADATA))
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http+v2://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def adapter_on(url: str, **settings: Any) -> TritonAdapter:
    fields = {"url": url, "max_retries": 0, "first_token_timeout_s": 3, "inter_token_timeout_s": 1}
    return TritonAdapter(TritonSettings.model_validate(fields | settings))


STREAMS = {
    "a page": (whole(b"<html><title>Bad Gateway</title></html>", "502 Bad Gateway", kind="text/html"), "not_ready"),
    "a refusal": (whole(b'{"error":"no"}', "401 Unauthorized"), "unauthenticated"),
    "too much": (whole(b"slow down", "429 Too Many Requests", "Retry-After: 7", kind="text/plain"), "overloaded"),
    "FastAPI's words": (whole(b'{"detail":[{"msg":"no such field"}]}', "422 Unprocessable"), "invalid_request"),
    "another path": (whole(b"", "302 Found", "Location: http://elsewhere.test/"), "protocol_violation"),
    "no JSON": (chunked(b"data: {half\n\n"), "protocol_violation"),
    "no object": (chunked(b"data: [1]\n\n"), "protocol_violation"),
    "deep JSON": (chunked(b"data: " + b"[" * 100_000 + b"\n\n"), "protocol_violation"),
    "no text": (chunked(b'data: {"text_output":7}\n\n'), "protocol_violation"),
    "two texts": (chunked(b'data: {"text_output":["a","b"]}\n\n'), "protocol_violation"),
    "a page with a success": (whole(b"<html>Log in</html>\n\n", kind="text/html"), "protocol_violation"),
    "nothing with a success": (b"HTTP/1.1 204 No Content\r\n\r\n", "protocol_violation"),
    "an error with a success": (whole(b'{"error":"no"}'), "engine_failed"),
    "a stream with an error's status": (
        whole(b'data: {"text_output":"a"}\n\n', "502 Bad Gateway", kind="text/event-stream"), "not_ready",
    ),
    "no event with an error's status": (whole(b"", "503 Busy", kind="text/event-stream"), "not_ready"),
    "another's words for an error": (chunked(b'data: {"detail":"no"}\n\n'), "protocol_violation"),
    "an event called error": (chunked(b"event: error\ndata: no\n\n"), "engine_failed"),
    "a status there is not": (whole(b'data: {"text_output":"a"}\n\n', "000 OK", kind="text/event-stream"),
                              "protocol_violation"),
    "an error that is no text": (chunked(b'data: {"error":{}}\n\n'), "engine_failed"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol_violation"),
    "a cut": (chunked(b'data: {"text_output":"a"}\n\n', end=b""), "stream_incomplete"),
    "a cut within an event": (chunked(b'data: {"text_output":"a"}\n\n', b'data: {"text_'), "stream_incomplete"),
    "a body without an end of its own": (
        b'HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {"text_output":"a"}\n\n', "stream_incomplete",
    ),
    "chunks that are none": (SSE + b"zz\r\nhello\r\n", "protocol_violation"),
}  # fmt: skip


@pytest.mark.spec("ORCH-3066-008", "ORCH-3066-009")
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_that_is_none_is_an_error_and_the_next_one_works(name: str) -> None:
    bad, code = STREAMS[name]
    async with scripted([bad, GOOD]) as url, adapter_on(url) as adapter:
        with anyio.fail_after(10):
            last = (await collect(adapter.submit(TaskRequest(model="m", prompt="hi"))))[-1]
            after = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert isinstance(last, Error), last
    assert last.code == code, last.message
    assert text_of(after) == "fine"
    if name == "too much":
        assert last.retry_after_s == 7


A_TEXT = b'data: {"text_output":"a"}\n\n'


@pytest.mark.spec("ORCH-3066-008", "ORCH-3068-019")
@pytest.mark.parametrize(
    "bad, code",
    [
        (b"data: {half\n\n", "protocol_violation"),
        (b'data: {"error":{"message":"out of memory","code":500}}\n\n', "engine_failed"),
        (b'event: error\ndata: {"detail":["out of memory"]}\n\n', "engine_failed"),
    ],
)
async def test_what_came_before_a_bad_event_is_shown_wherever_the_bytes_are_cut(bad: bytes, code: str) -> None:
    together, apart = chunked(A_TEXT + A_TEXT + bad), chunked(*(bytes([each]) for each in A_TEXT + A_TEXT + bad))
    async with scripted([together, apart]) as url, adapter_on(url) as adapter:
        for _ in range(2):
            events = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))
            assert text_of(events) == "aa"
            assert isinstance(events[-1], Error)
            assert events[-1].code == code
            assert code != "engine_failed" or "out of memory" in events[-1].message


@pytest.mark.spec("ORCH-3066-008")
@pytest.mark.parametrize("nothing", [b"null", b'""'])
async def test_an_error_of_nothing_beside_a_text_is_none(nothing: bytes) -> None:
    event = b'data: {"text_output":"a","error":%b}\n\n' % nothing
    async with scripted([chunked(event, event)]) as url, adapter_on(url) as adapter:
        events = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert text_of(events) == "aa"
    assert isinstance(events[-1], End)


@pytest.mark.spec("ORCH-3066-001")
async def test_a_cancel_between_the_headers_and_their_reader_is_a_cancel() -> None:
    async with scripted([GOOD]) as url:
        transport = HttpTransport(TritonSettings(url=url))
        schema = ModelSchema(name="m", inputs={}, outputs={}, decoupled=True)
        call = await transport.stream(WireRequest(model="m", inputs=(), schema=schema), timeout_s=10)
        # Before whoever reads is told of them: as if a cancel came in the same step of the event loop.
        call._opening.add_done_callback(lambda _: call.cancel())
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await transport.aclose()


@pytest.mark.spec("ORCH-3066-008")
async def test_a_line_without_an_end_is_given_up_at_the_limit() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(SSE)
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(1600):
            writer.write(piece)
            await writer.drain()

    async with scripted([endless, GOOD]) as url, adapter_on(url, max_message_bytes=1_000_000) as adapter:
        with anyio.fail_after(10):
            last = (await collect(adapter.submit(TaskRequest(model="m", prompt="hi"))))[-1]
            after = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert isinstance(last, Error)
    assert (last.code, "max_message_bytes" in last.message) == ("invalid_request", True)
    assert text_of(after) == "fine"


HEAD = b'{"outputs":[{"name":"text_output","datatype":"%b","shape":%b,%b}]}'
INFERENCES = {
    "cut": (whole(b'{"outputs":[]}')[:-3] + b"", "stream_incomplete"),
    "no outputs": (whole(b"{}"), "protocol_violation"),
    "a datatype there is not": (whole(HEAD % (b"FP7", b"[1]", b'"data":[1]')), "protocol_violation"),
    "out of range": (whole(HEAD % (b"INT8", b"[1]", b'"data":[300]')), "protocol_violation"),
    "a negative size": (whole(HEAD % (b"FP32", b"[-1]", b'"data":[1]')), "protocol_violation"),
    "fewer than its shape": (whole(HEAD % (b"FP32", b"[3]", b'"data":[1]')), "protocol_violation"),
    "more bytes than there are": (
        whole(HEAD % (b"FP32", b"[1]", b'"parameters":{"binary_data_size":4}')), "protocol_violation",
    ),
    "a wrong header": (
        whole(b"{}", "200 OK", "Inference-Header-Content-Length: 99999"), "protocol_violation",
    ),
    "a header beyond all numbers": (
        whole(b"{}", "200 OK", f"Inference-Header-Content-Length: {'9' * 5000}"), "protocol_violation",
    ),
    "a page": (whole(b"<!doctype html>hello}", kind="text/html"), "protocol_violation"),
}  # fmt: skip


@pytest.mark.spec("ORCH-3066-008")
@pytest.mark.parametrize("name", INFERENCES)
async def test_an_answer_that_is_none_is_an_error_and_the_next_one_works(name: str) -> None:
    bad, code = INFERENCES[name]
    good = whole(HEAD % (b"BYTES", b"[1]", b'"data":["fine"]'))
    request = InferRequest(model="m", inputs=(Tensor.from_bytes_elements("text_input", [b"x"]),))
    async with scripted([bad, good], decoupled=False) as url, adapter_on(url) as adapter:
        with anyio.fail_after(10):
            with pytest.raises(AdapterError) as caught:
                await adapter.infer(request)
            response = await adapter.infer(request)

    assert caught.value.code == code, caught.value.message
    assert response["text_output"].elements() == [b"fine"]


@pytest.mark.spec("ORCH-3066-009")
@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_stream_that_comes_in_pieces_of_any_size_is_whole(size: int) -> None:
    said = "naïve 日本 🙂"
    with FakeTriton() as fake:
        fake.model("m").signature("text").respond_with_tokens(list(said))
        fake.http_proxy.drip(size)
        async with TritonAdapter(TritonSettings(url=fake.http_url.replace("http", "http+v2"))) as adapter:
            events = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert text_of(events) == said
    assert isinstance(events[-1], End)


@pytest.mark.spec("ORCH-3066-001")
async def test_bytes_that_are_no_text_within_json_make_the_text_that_they_are() -> None:
    # Triton writes a tensor's bytes into the JSON as they are, and a model may cut a character in two.
    euro = "€".encode()
    # Half of a pair is no character either, though JSON can name it.
    events = (b'data: {"text_output":"%b"}\n\n' % part for part in (euro[:1], euro[1:], b"\xff", b"\\ud83d"))
    async with scripted([chunked(*events)]) as url, adapter_on(url) as adapter:
        tokens = [event for event in await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))
                  if isinstance(event, Token)]  # fmt: skip

    assert "".join(token.text for token in tokens) == "€\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
