"""What is wrong before any face sees it, or in bytes that no client library would send."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import zlib

import anyio
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import adapter_api
from adapter_api import AdapterError
from adapter_api.testing import MockAdapter
from orchestrator.config.server import LimitSettings
from orchestrator.http.problems import STATUS_OF_CODE
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_guard import KEYS
from tests.orchestrator.http.test_tasks import TASK, mock, submit
from tests.orchestrator.http.wire import exchange, request_of, status_of
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

MAX_HEADER_BYTES = LimitSettings().max_header_bytes

DEEP = b"[" * 100_000
INFER = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}


@pytest.mark.spec("ORCH-3064-024", "ORCH-3064-021")
@pytest.mark.parametrize(
    "path", ["/v2/tasks", "/v1/chat/completions", "/v1/completions", "/v2/models/mock/infer", "/v2/pools/default/drain"]
)
@pytest.mark.parametrize("body", [DEEP, b'{"model": "\xff"}', b'{"a": 1e999}', b"\x00"])
async def test_a_body_that_is_no_json_is_the_clients_fault(serve: Serve, path: str, body: bytes) -> None:
    async with serve() as host:
        response = await host.client.post(path, content=body)

    assert response.status_code == 400
    assert "invalid_request" in response.text


@pytest.mark.spec("ORCH-3064-024", "ORCH-3064-021")
async def test_what_is_nested_too_deeply_for_validation_is_the_clients_fault(serve: Serve) -> None:
    depth = 600
    schema = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"model":"mock","prompt":"p","tools":[{"name":"f","parameters":%b}]}' % schema
    async with serve() as host:
        response = await host.client.post("/v2/tasks", content=body)

    assert response.status_code in (200, 400)


@pytest.mark.spec("ORCH-3064-006")
@pytest.mark.parametrize("number", [b"9" * 5000, b"\xb2", b"-1", b"1e3", b"999"])
async def test_a_last_event_id_that_cannot_be_is_refused(serve: Serve, number: bytes) -> None:
    async with serve() as host:
        await submit(host, job_id="kept", on_disconnect="keep")
        answer = await exchange(host, request_of("GET", "/v2/tasks/kept/events", b"Last-Event-ID: " + number))

    assert status_of(answer) == 400
    assert b'"invalid_request"' in answer


@pytest.mark.spec("ORCH-3064-018")
@pytest.mark.parametrize("header", [b"Authorization: Basic \xe9", b"Authorization: Bearer \xe9", b"X-API-Key: \xe9"])
async def test_a_key_of_strange_characters_is_not_known(serve: Serve, header: bytes) -> None:
    async with serve(server=KEYS) as host:
        answer = await exchange(host, request_of("GET", "/v1/models", header))

    assert status_of(answer) == 401


@pytest.mark.spec("ORCH-3064-018")
@pytest.mark.parametrize("target", ["/v2/pools?\xff", "/v2/pools"])
async def test_no_host_or_query_makes_a_closed_path_an_open_one(serve: Serve, target: str) -> None:
    async with serve(server=KEYS) as host:
        answer = await exchange(
            host, f"GET {target} HTTP/1.1\r\nHost: localhost/livez?\r\nConnection: close\r\n\r\n".encode("latin-1")
        )

    assert status_of(answer) in (400, 401)


@pytest.mark.parametrize(
    "path, body", [("/v2/tasks", TASK), ("/v1/completions", TASK), ("/v2/models/mock/infer", INFER)]
)
@pytest.mark.parametrize("trace", [b"garbage", b"\xe9", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
async def test_a_broken_trace_context_is_ignored(
    serve: Serve, path: str, body: dict[str, object], trace: bytes
) -> None:
    async with serve() as host:
        request = request_of("POST", path, b"traceparent: " + trace, body=json.dumps(body).encode())
        answer = await exchange(host, request)

    assert status_of(answer) == 200


@pytest.mark.spec("ORCH-3064-007")
async def test_headers_without_end_are_cut_off(serve: Serve) -> None:
    async with serve() as host:
        endless = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * MAX_HEADER_BYTES
        answer = await exchange(host, endless)

    assert status_of(answer) == 431
    assert refusal_of(answer)["code"] == "headers_too_many"


@pytest.mark.spec("ORCH-3064-007")
@pytest.mark.parametrize("more, status", [(0, 200), (1, 431), (4464, 431), (40_000, 431)])
async def test_headers_are_counted_to_the_byte(serve: Serve, more: int, status: int) -> None:
    named = b"/livez", b"host: localhost\r\n", b"connection: close\r\n", b"a: \r\n"
    left = MAX_HEADER_BYTES + more - sum(map(len, named))
    async with serve() as host:
        answer = await exchange(host, request_of("GET", "/livez", b"A: " + b"a" * left))

    assert status_of(answer) == status
    if status == 431:
        assert refusal_of(answer)["code"] == "headers_too_many"
        assert f"more than {MAX_HEADER_BYTES} bytes (server.limits.max_header_bytes)" in str(refusal_of(answer))


@pytest.mark.spec("ORCH-3064-007")
@pytest.mark.parametrize("pieces", [2, 5])
async def test_headers_are_counted_across_reads(serve: Serve, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """Of a second request: what comes before its last read is not all that its connection was waiting for."""
    reads: list[int] = []
    received = HttpToolsProtocol.data_received

    def counted(self: HttpToolsProtocol, data: bytes) -> None:
        received(self, data)
        reads.append(len(data))

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counted)
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nA: " + b"a" * MAX_HEADER_BYTES
    size = len(head) // pieces
    async with serve() as host:
        address, _, port = host.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(address, int(port)) as stream:
            with anyio.fail_after(10):
                await stream.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                first = await stream.receive()
                came = sum(reads)
                for start in range(0, size * (pieces - 1), size):
                    await stream.send(head[start : start + size])
                    came += size
                    await eventually(lambda: sum(reads) >= came)  # noqa: B023
                await stream.send(head[size * (pieces - 1) :] + b"\r\n\r\n")
                answer = b""
                async for piece in stream:
                    answer += piece

    assert status_of(first) == 200
    assert status_of(answer) == 431


CHUNKED = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.spec("ORCH-3064-007")
@pytest.mark.parametrize("trailers", [b"A: " + b"a" * 600_000, b"A: a\r\n" * 100_000])
async def test_trailers_without_end_are_cut_off(serve: Serve, trailers: bytes) -> None:
    async with serve() as host:
        address, _, port = host.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(address, int(port)) as stream:
            answer = b""
            with anyio.fail_after(10):
                try:
                    await stream.send(CHUNKED + b"1\r\n{\r\n0\r\n" + trailers)
                    async for piece in stream:
                        answer += piece
                except anyio.BrokenResourceError:  # it was closed while we sent: the answer may be lost with it
                    pass

    assert answer == b"" or status_of(answer) == 431


async def test_a_trailer_is_no_header(serve: Serve) -> None:
    """Headers are what a proxy before us has looked at, and trailers are not."""
    body = json.dumps(TASK).encode()
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    async with serve() as host:
        answer = await exchange(host, CHUNKED + chunk + b"X-Request-Id: from-a-trailer\r\nHost: evil.example\r\n\r\n")

    assert status_of(answer) == 200
    assert b"from-a-trailer" not in answer


async def test_a_body_in_small_chunks_is_not_taken_for_trailers(serve: Serve) -> None:
    body = json.dumps({**TASK, "prompt": "p" * MAX_HEADER_BYTES}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    async with serve() as host:
        answer = await exchange(host, CHUNKED + chunks + b"0\r\n\r\n")

    assert status_of(answer) == 200


def refusal_of(answer: bytes) -> dict[str, object]:
    """The error of an answer that has to be as typed and as traceable as any other."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nx-request-id: " in head.lower()
    assert b"\r\ncontent-type: application/json" in head.lower()
    error: dict[str, object] = json.loads(body)["error"]
    return error


@pytest.mark.spec("ORCH-3064-024")
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"post /v2/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
async def test_bytes_that_are_no_request_are_told_so_in_a_typed_error(serve: Serve, garbage: bytes) -> None:
    async with serve() as host:
        answer = await exchange(host, garbage)

    assert status_of(answer) == 400
    assert refusal_of(answer)["code"] == "invalid_request"


@pytest.mark.spec("ORCH-3064-024")
async def test_garbage_behind_a_request_does_not_get_into_its_answer(serve: Serve) -> None:
    body = json.dumps({**TASK, "max_tokens": 3}).encode()
    request = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serve({"hang_after": 1}) as host:
        address, _, port = host.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(address, int(port)) as stream:
            answer = b""
            with anyio.fail_after(10):
                await stream.send(request + body)
                while b"event: token" not in answer:
                    answer += await stream.receive()
                await stream.send(b"\x00garbage\r\n\r\n")
                async for piece in stream:
                    answer += piece

    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_large_body_is_not_taken_for_headers(serve: Serve) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/tasks", json={**TASK, "prompt": "p" * (4 * MAX_HEADER_BYTES)})

    assert response.status_code == 200


@pytest.mark.spec("ORCH-3064-001")
async def test_a_client_of_http_1_0_gets_its_events_without_chunks(serve: Serve) -> None:
    body = json.dumps(TASK).encode()
    async with serve({"reply": "one two"}) as host:
        answer = await exchange(host, b"POST /v2/tasks HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        whole = await exchange(host, b"GET /livez HTTP/1.0\r\n\r\n")

    head, _, events = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert events.startswith(b"event: started\nid: 0\n")
    assert b"event: end\n" in events
    assert whole.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v2/health/ready", "/v1/models", "/"])
async def test_head_is_get_without_its_body(serve: Serve, path: str) -> None:
    async with serve() as host:
        head = await host.client.head(path)
        get = await host.client.get(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_a_method_that_is_not_taken_is_told_with_those_that_are(serve: Serve) -> None:
    async with serve() as host:
        response = await host.client.request("PATCH", "/v2/tasks/a")

    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert response.headers["allow"] == "DELETE, GET, HEAD"


@pytest.mark.spec("ORCH-3064-023")
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_a_page_of_another_origin_changes_nothing(serve: Serve, origin: str) -> None:
    async with serve() as host:
        # What a browser sends without asking: a simple request.
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        refused = await host.client.post("/v2/pools/default/drain", content=b"{}", headers=headers)
        own = await host.client.post("/v2/tasks", json=TASK, headers={"Origin": host.url})

        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert host.orchestrator.ready
        assert own.status_code == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as host:
        address, _, port = host.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(address, int(port)) as stream:
            await stream.send(b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await host.client.get("/livez")
        await eventually(lambda: not _requests_in_work())

    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def _requests_in_work() -> list[str]:
    return [name for each in asyncio.all_tasks() if "run_asgi" in (name := repr(each.get_coro()))]


@pytest.mark.spec("ORCH-3064-013")
@pytest.mark.parametrize("coding, pack", [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read(serve: Serve, coding: str, pack: object) -> None:
    assert callable(pack)
    body = pack(json.dumps(INFER).encode())
    async with serve() as host:
        response = await host.client.post("/v2/models/mock/infer", content=body, headers={"Content-Encoding": coding})

    assert response.status_code == 200
    assert response.json()["outputs"][0]["data"] == [1]


@pytest.mark.spec("ORCH-3064-007")
@pytest.mark.parametrize(
    "coding, body, status",
    [
        ("gzip", gzip.compress(b" " * 100_000, mtime=0), 413),
        ("gzip", b"\x1f\x8b", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], 400),
        ("gzip", gzip.compress(b"{}", mtime=0) * 2, 400),
        ("br", b"{}", 400),
    ],
)
async def test_a_compressed_body_that_cannot_be_is_refused(serve: Serve, coding: str, body: bytes, status: int) -> None:
    async with serve(server={"limits": {"max_body_bytes": 50_000}}) as host:
        response = await host.client.post("/v2/tasks", content=body, headers={"Content-Encoding": coding})

    assert response.status_code == status


@pytest.mark.spec("ORCH-3064-008")
@pytest.mark.long
async def test_an_answer_that_nobody_takes_is_cut_off_also_when_it_is_no_stream(serve: Serve) -> None:
    size = 16 * 2**20
    tensor = {"name": "x", "datatype": "UINT8", "shape": [size], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = head + bytes(size)
    async with serve(server={"limits": {"write_timeout_s": 0.3}}) as host:
        address, _, port = host.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(address, int(port)) as stream:
            await stream.send(
                request_of(
                    "POST", "/v2/models/mock/infer", b"Inference-Header-Content-Length: %d" % len(head), body=body
                )
            )
            served = [each for each in gc.get_objects() if isinstance(each, HttpToolsProtocol)]
            assert [each for each in served if each in each.connections]
            # Nothing is read: the host gives up, and lets go of its end.
            await eventually(lambda: not [each for each in served if each in each.connections])


@pytest.mark.spec("ORCH-3064-004")
async def test_a_body_that_is_declared_and_never_sent_does_not_end_a_stream_in_an_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve({"reply": "one two", "hang_after": 1}, server={"limits": {"body_timeout_s": 0.1}}) as host:
        async with host.client.stream("POST", "/v2/tasks", json={**TASK, "job_id": "k", "on_disconnect": "keep"}):
            pass
        await exchange(host, request_of("GET", "/v2/tasks/k/events", b"Content-Length: 5"))

        assert isinstance(mock(host), MockAdapter)
        assert len(mock(host).running) == 1
    assert not [record for record in caplog.records if "Group" in str(record.exc_info)]


@pytest.mark.spec("ORCH-3064-024")
@pytest.mark.parametrize(
    "path, body",
    [
        ("/v2/tasks", {"model": "m" * 1_000_000, "prompt": "p"}),
        ("/v2/tasks", {"model": "mock", "prompt": "p", "k" * 1_000_000: 1}),
        ("/v2/tasks", {"model": "mock", "messages": [{}] * 20_000}),
        ("/v2/tasks", {"model": "mock", "prompt": "p", **{f"k{number}": 1 for number in range(20_000)}}),
        ("/v1/completions", {"model": "mock", "prompt": "p", "k" * 1_000_000: 1}),
        ("/v2/models/mock/infer", {"inputs": [{"name": "n" * 1_000_000}]}),
        ("/v2/models/mock/infer", {"inputs": [], "outputs": [{"name": "n" * 1_000_000}]}),
    ],
)
async def test_no_refusal_is_as_long_as_what_was_sent(serve: Serve, path: str, body: dict[str, object]) -> None:
    async with serve(server={"unknown_fields": "refuse"}) as host:
        response = await host.client.post(path, json=body)

    assert response.status_code in (400, 404)
    assert len(response.content) < 10_000


@pytest.mark.spec("ORCH-3064-003")
def test_every_error_of_the_contract_has_a_status() -> None:
    exported = [getattr(adapter_api, name) for name in adapter_api.__all__]
    errors = [each for each in exported if isinstance(each, type) and issubclass(each, AdapterError)]

    assert len(errors) > 20
    assert {each.code for each in errors} - {AdapterError.code} <= set(STATUS_OF_CODE)
