"""Pages of listed origins read every answer: without its headers a browser tells an SDK of a broken network."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_guard import KEYS
from tests.orchestrator.http.wire import exchange, request_of, status_of

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3073-012")]

ORIGIN = "https://page.example"
PAGE = {"Origin": ORIGIN}
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/mock", "/v2/models/mock/ready"])
async def test_a_bug_of_ours_is_no_broken_network_to_a_page(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def broken(*anything: Any) -> None:
        raise RuntimeError("a bug")

    async with serve(server={"cors_origins": [ORIGIN]}) as host:
        for each in ("models", "may_have"):
            monkeypatch.setattr(host.orchestrator, each, broken)
        response = await host.client.get(path, headers=PAGE)

    assert response.status_code == 500
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]
    assert response.headers["x-request-id"]


REFUSED: list[tuple[int, str, str, dict[str, Any]]] = [
    (404, "GET", "/v1/nothing", {}),
    (405, "GET", "/v1/chat/completions", {}),
    (404, "POST", "/v1/chat/completions", {"json": {**CHAT, "model": "absent"}}),
    (400, "POST", "/v1/chat/completions", {"content": b"{"}),
    (413, "POST", "/v1/chat/completions", {"content": b"x" * 2000}),
    (431, "POST", "/v1/chat/completions", {"headers": [(f"x-{n}", "1") for n in range(300)]}),
    (504, "POST", "/v1/chat/completions", {"json": {**CHAT, "timeout_s": 0.01}}),
    (400, "POST", "/v1/embeddings", {"json": {"model": "mock", "input": "a"}}),
    (404, "GET", "/v1/responses/resp_none", {}),
    (421, "GET", "/v1/models", {"headers": [("host", "evil.example")]}),
    (404, "GET", "/v2/models/absent", {}),
]


async def test_refusals_are_read_by_a_page(serve: Serve) -> None:
    server = {"cors_origins": [ORIGIN], "limits": {"max_body_bytes": 1024}}
    found = []
    async with serve({"delay_s": 5.0}, server=server) as host:
        for status, method, path, sent in REFUSED:
            headers = [*PAGE.items(), *sent.get("headers", [])]
            response = await host.client.request(method, path, **{**sent, "headers": headers})
            found.append((response.status_code, response.headers.get("access-control-allow-origin")))
            assert found[-1] == (status, ORIGIN), (method, path)

    assert len(found) == len(REFUSED)


async def test_a_missing_key_is_told_to_a_page(serve: Serve) -> None:
    async with serve(server={"cors_origins": [ORIGIN], **KEYS}) as host:
        response = await host.client.get("/v1/models", headers=PAGE)

    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == ORIGIN


async def test_a_body_that_does_not_come_is_told_to_a_page(serve: Serve) -> None:
    slow = request_of("POST", "/v1/completions", f"Origin: {ORIGIN}".encode(), b"Content-Length: 10")
    async with serve(server={"cors_origins": [ORIGIN], "limits": {"body_timeout_s": 0.05}}) as host:
        answer = await exchange(host, slow + b"\r\n\r\n")

    assert status_of(answer) == 408
    assert f"access-control-allow-origin: {ORIGIN}".encode() in answer.lower()


@pytest.mark.parametrize("origins", [[ORIGIN], ["*"]])
async def test_headers_that_are_too_large_are_told_to_a_page(serve: Serve, origins: list[str]) -> None:
    large = request_of("GET", "/v1/models", f"Origin: {ORIGIN}".encode(), b"Cookie: " + b"a" * 4096)[:-4]
    async with serve(server={"cors_origins": origins, "limits": {"max_header_bytes": 1024}}) as host:
        answer = await exchange(host, large)
        other = await exchange(host, large.replace(ORIGIN.encode(), b"https://evil.example"))

    assert status_of(answer) == 431
    assert b"access-control-allow-origin: " + (b"*" if origins == ["*"] else ORIGIN.encode()) in answer.lower()
    assert (b"access-control-allow-origin" in other.lower()) == (origins == ["*"])


async def test_one_connection_too_many_is_told_as_typed_as_any_refusal(serve: Serve) -> None:
    async with serve(server={"cors_origins": [ORIGIN], "limits": {"max_connections": 2}}) as host:
        async with await connection_to(host):
            answer = await exchange(host, request_of("GET", "/v1/models", f"Origin: {ORIGIN}".encode()) + b"\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 429
    assert f"access-control-allow-origin: {ORIGIN}".encode() in head.lower()
    assert b"retry-after: " in head.lower()
    assert b"server.limits.max_connections" in body


async def connection_to(host: Host) -> anyio.abc.SocketStream:
    """One that is there: it has had an answer."""
    address, _, port = host.url.removeprefix("http://").partition(":")
    stream = await anyio.connect_tcp(address, int(port))
    await stream.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with anyio.fail_after(5):
        await stream.receive()
    return stream
