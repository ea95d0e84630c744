"""Clients that send many requests before they have an answer: bounded, in order, and seen to leave."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.http import hangups
from orchestrator.http import server as module
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_certificate import AUTHORITY, write
from tests.orchestrator.observability.test_metrics import ON_R0, value
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

LIVE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def chat(**fields: Any) -> bytes:
    body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5000, **fields})
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def connected(host: Host, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name, _, port = host.url.rpartition("/")[2].partition(":")
    return await asyncio.open_connection(name, int(port), ssl=tls)


def in_flight(host: Host) -> int:
    return sum(pool.in_flight for pool in host.orchestrator.pools)


@pytest.mark.spec("ORCH-3064-058")
@pytest.mark.parametrize(
    "behind, streamed",
    # Of more than the system's buffers hold no end comes through, until something is written to who has left.
    [(0, False), (16, True), (17, False), (17, True), (100, False), (1999, True), (2000, False), (20_001, True)],
)
async def test_a_client_that_leaves_ends_its_task_whatever_it_has_sent_behind(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, behind: int, streamed: bool
) -> None:
    await leaves(serve, monkeypatch, behind, streamed=streamed)


@pytest.mark.spec("ORCH-3064-058")
@pytest.mark.parametrize("behind", [4, 100, 101])
async def test_a_client_that_leaves_through_tls_is_seen_as_soon(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, behind: int
) -> None:
    write(tmp_path, days=30)
    client = ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    await leaves(serve, monkeypatch, behind, streamed=False, tls=client, server={"tls": files})


async def leaves(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, behind: int, *, streamed: bool,
    tls: ssl.SSLContext | None = None, **settings: Any,
) -> None:  # fmt: skip
    read = 0
    completed = module._Protocol.on_headers_complete

    def one_more(self: Any) -> None:
        nonlocal read
        completed(self)
        read = len(self.pipeline)

    monkeypatch.setattr(module._Protocol, "on_headers_complete", one_more)
    async with serve({"delay_s": 0.02, "reply": "x " * 5000}, **settings) as host:
        _, writer = await connected(host, tls)
        writer.write(chat(stream=streamed))
        await eventually(lambda: in_flight(host) == 1)
        writer.write(LIVE * behind)
        await eventually(lambda: read >= min(behind, 17))
        if (
            tls is not None and behind % 2 == 0
        ):  # asyncio's own close says good-bye in TLS first, and waits for an answer
            writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        elif behind % 2:
            writer.transport.abort()
        else:
            writer.close()

        with anyio.fail_after(10):
            await eventually(lambda: in_flight(host) == 0)

        assert value(host.orchestrator, "tasks_total", **ON_R0, model_id="mock", outcome="cancelled") == 1


@pytest.mark.spec("ORCH-3064-059")
async def test_all_that_was_sent_ahead_is_answered_in_order(serve: Serve) -> None:
    count = 500
    async with serve({"reply": "x"}) as host:
        reader, writer = await connected(host)
        writer.write(chat(max_tokens=1) + LIVE * count)
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200")
        found = b""
        with anyio.fail_after(30):
            while found.count(b"HTTP/1.1 200") < count:
                read = await reader.read(1 << 16)
                assert read
                found += read
        writer.close()


@pytest.mark.spec("ORCH-3064-059")
@pytest.mark.parametrize("told", [True, False], ids=["Linux", "elsewhere"])
async def test_what_is_read_ahead_has_a_bound(serve: Serve, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setattr(hangups, "_KNOWN", told and hangups._KNOWN)
    most = 0
    started = module._Protocol._start_asgi_task

    def starting(self: Any, *arguments: Any) -> None:
        nonlocal most
        most = max(most, len(self.pipeline))
        started(self, *arguments)

    monkeypatch.setattr(module._Protocol, "_start_asgi_task", starting)
    one_read = (256 << 10) // len(LIVE) + 1
    async with serve() as host:
        reader, writer = await connected(host)
        sending = asyncio.ensure_future(_send(writer, LIVE * (one_read * 6)))
        answered = 0
        with anyio.fail_after(30):
            while answered < 200:  # after each of them uvicorn would read on
                answered += (await reader.read(1 << 16)).count(b"HTTP/1.1 200")
        sending.cancel()
        writer.transport.abort()

    assert 0 < most <= one_read + 16


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
