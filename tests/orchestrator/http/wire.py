"""Requests that no HTTP client would send, as bytes."""

from __future__ import annotations

import anyio

from tests.orchestrator.http.conftest import Host


async def exchange(host: Host, request: bytes) -> bytes:
    """Send bytes on a connection of their own, and return all that comes back until the host closes it."""
    address, _, port = host.url.removeprefix("http://").partition(":")
    answer = b""
    async with await anyio.connect_tcp(address, int(port)) as stream:
        await stream.send(request)
        with anyio.fail_after(10):
            async for piece in stream:
                answer += piece
    return answer


def request_of(method: str, path: str, *headers: bytes, body: bytes = b"") -> bytes:
    """A request after which the host closes the connection."""
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *headers]
    if body:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*head, b"", body])


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])
