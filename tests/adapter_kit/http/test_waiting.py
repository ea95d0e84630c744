"""Deadlines by stage, windows, cancels: what an exchange does while nothing, or too much, comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapter_api import (
    AdapterClosed,
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineStage,
    Overloaded,
)
from adapter_kit.http import HttpClient, HttpSettings
from tests.adapter_kit.http.peers import OK, WITHIN_S, Peer, always, read_to_the_end, serving

pytestmark = pytest.mark.anyio

BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"


async def silent(peer: Peer) -> None:
    await peer.asked()
    await peer.gone()


async def begins(peer: Peer) -> None:
    await peer.asked()
    await peer.send(BEGUN)
    await peer.gone()


@pytest.mark.spec("ORCH-3068-008")
@pytest.mark.parametrize(
    "stage, times",
    [
        ("first_token", {"timeout_s": 30, "headers_s": 0.05}),
        ("first_token", {"timeout_s": 30, "headers_s": 0.05, "stall_s": 0.01}),
        ("total", {"timeout_s": 0.05}),
        ("total", {"timeout_s": 0.05, "headers_s": 30, "stall_s": 30}),
        ("health", {"timeout_s": 0.05, "stage": "health"}),
    ],
)
async def test_a_server_that_says_nothing_is_given_up_by_the_stage_that_is_over(
    stage: DeadlineStage, times: dict[str, float]
) -> None:
    async with serving(silent) as server:
        client = HttpClient(server.url)
        with pytest.raises(DeadlineExceeded) as caught:
            await read_to_the_end(client, [], **times)

        assert caught.value.stage == stage
        assert server.url in caught.value.message
        await asyncio.wait_for(server.closed.get(), WITHIN_S)
        await client.aclose()


@pytest.mark.spec("ORCH-3068-008")
@pytest.mark.parametrize("stage, times", [
    ("inter_token", {"timeout_s": 30, "stall_s": 0.05}),
    ("inter_token", {"timeout_s": 30, "headers_s": 30, "stall_s": 0.05}),
    ("total", {"timeout_s": 0.2, "stall_s": 30}),
])  # fmt: skip
async def test_a_server_that_falls_silent_is_given_up_after_what_it_said(
    stage: DeadlineStage, times: dict[str, float]
) -> None:
    async with serving(begins) as server:
        client = HttpClient(server.url)
        read: list[bytes] = []
        with pytest.raises(DeadlineExceeded) as caught:
            await read_to_the_end(client, read, **times)

        assert (caught.value.stage, read) == (stage, [b"one"])
        await asyncio.wait_for(server.closed.get(), WITHIN_S)
        await client.aclose()


@pytest.mark.spec("ORCH-3068-008")
async def test_a_reader_that_takes_its_time_is_no_stall_of_the_server() -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(BEGUN)
        await more.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

    async with serving(script) as server:
        client = HttpClient(server.url)
        async with client.stream("GET", "/", timeout_s=30, stall_s=0.1) as answer:
            assert await answer.next_chunk() == b"one"
            await asyncio.sleep(0.25)  # longer than the stall: this is what is tried
            more.set()
            assert await answer.next_chunk() == b"two"
            assert await answer.next_chunk() == b""
        await client.aclose()


@pytest.mark.spec("ORCH-3068-008")
async def test_a_connection_that_does_not_come_about_is_given_up_by_its_own_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "sock_connect", never)
    client = HttpClient("http://127.0.0.1:9", settings=HttpSettings(connect_timeout_s=0.05))

    with pytest.raises(DeadlineExceeded) as caught:
        await client.request("GET", "/", timeout_s=30)
    assert caught.value.stage == "connect"
    with pytest.raises(DeadlineExceeded) as caught:
        await client.request("GET", "/", timeout_s=0.02)
    assert caught.value.stage == "total"
    await client.aclose()


@pytest.mark.spec("ORCH-3068-008")
async def test_who_waits_for_a_connection_waits_for_his_deadline_at_most_and_gets_the_next() -> None:
    async with serving(begins) as server:
        client = HttpClient(server.url, settings=HttpSettings(max_connections=1))
        async with client.stream("GET", "/", timeout_s=30):
            with pytest.raises(DeadlineExceeded, match="max_connections") as caught:
                await client.request("GET", "/", timeout_s=0.05)
            assert caught.value.stage == "queue"
            waiting = asyncio.create_task(client.stream("GET", "/", timeout_s=30).__aenter__())
            given_up = asyncio.create_task(client.request("GET", "/", timeout_s=30))
            await asyncio.sleep(0)
            given_up.cancel()
        answer = await asyncio.wait_for(waiting, WITHIN_S)

        assert await answer.next_chunk() == b"one"
        await client.aclose()


@pytest.mark.spec("ORCH-3068-009")
@pytest.mark.parametrize("framing", ["chunks", "length", "close"])
async def test_a_reader_that_stalls_stops_the_server_at_the_window(framing: str) -> None:
    sent, step = 0, bytes(100_000)

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.asked()
        await peer.send({
            "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "length": b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n",
            "close": b"HTTP/1.1 200 OK\r\n\r\n",
        }[framing])  # fmt: skip
        for _ in range(500):
            await peer.send(b"186a0\r\n" + step + b"\r\n" if framing == "chunks" else step)
            sent += len(step)
        if framing == "chunks":
            await peer.send(b"0\r\n\r\n")

    async with serving(flood) as server:
        client = HttpClient(server.url, settings=HttpSettings(window_bytes=100_000))
        async with client.stream("GET", "/", timeout_s=60) as answer:
            before = -1
            while before != sent:  # until the server gets nothing more off
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 50_000_000
            first = await answer.next_chunk()
            # The window, and what the last read brought beyond it.
            assert 100_000 <= len(first) <= 100_000 + 128 * 1024
            size = len(first)
            async for data in answer.chunks():
                size += len(data)
            assert size == 50_000_000
        await client.aclose()


@pytest.mark.spec("ORCH-3068-002")
async def test_leaving_an_answer_closes_its_connection() -> None:
    async with serving(begins) as server:
        client = HttpClient(server.url)
        async with client.stream("GET", "/", timeout_s=30) as answer:
            assert await answer.next_chunk() == b"one"

        assert await asyncio.wait_for(server.closed.get(), WITHIN_S) == 1
        assert client.open_connections == 0
        await client.aclose()


@pytest.mark.spec("ORCH-3068-002")
async def test_an_answer_given_up_from_outside_ends_the_read_that_waits() -> None:
    async with serving(begins) as server:
        client = HttpClient(server.url)
        async with client.stream("GET", "/", timeout_s=30) as answer:
            assert await answer.next_chunk() == b"one"
            asyncio.get_running_loop().call_soon(answer.abort, Overloaded("enough"))
            with pytest.raises(Overloaded, match="enough"):
                await answer.next_chunk()
            answer.abort()

        assert await asyncio.wait_for(server.closed.get(), WITHIN_S) == 1
        await client.aclose()


@pytest.mark.spec("ORCH-3068-003")
async def test_an_answer_that_was_left_touches_no_other_on_its_connection() -> None:
    async with serving(always(OK)) as server:
        client = HttpClient(server.url)
        async with client.stream("GET", "/", timeout_s=30) as left:
            assert await left.read(10) == b"ok"
        async with client.stream("GET", "/", timeout_s=30) as answer:
            left.abort()
            with pytest.raises(AdapterClosed):
                await left.next_chunk()
            with pytest.raises(AdapterClosed):
                await left.read(10)
            assert await answer.read(10) == b"ok"

        assert server.connections == client.idle_connections == 1
        await client.aclose()


@pytest.mark.spec("ORCH-3068-002")
async def test_leaving_an_answer_ends_the_read_of_whoever_waits_for_more() -> None:
    async with serving(begins) as server:
        client = HttpClient(server.url)
        exchange = client.stream("GET", "/", timeout_s=30)
        answer = await exchange.__aenter__()
        assert await answer.next_chunk() == b"one"
        asyncio.get_running_loop().call_soon(exchange.close)
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(AdapterClosed):
                await answer.next_chunk()
        await client.aclose()


async def slowly(peer: Peer) -> None:
    """Answer with a rest between all parts, so that there is an await to be cancelled at for each."""
    while True:
        await peer.asked()
        for part in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 8\r\n\r\n", b"ab", b"cd", b"ef", b"gh"):
            await asyncio.sleep(0)
            await peer.send(part)


async def body() -> AsyncIterator[bytes]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield b"part"


@pytest.mark.spec("ORCH-3068-005")
@pytest.mark.parametrize("how", ["whole", "stream", "upload"])
async def test_a_cancel_at_any_step_leaves_no_connection_and_no_slot(how: str) -> None:
    async with serving(slowly) as server:
        client = HttpClient(server.url, settings=HttpSettings(max_connections=1))

        async def call() -> None:
            if how == "stream":
                async with client.stream("GET", "/", timeout_s=30) as answer:
                    async for _ in answer.chunks():
                        await asyncio.sleep(0)
            else:
                await client.request("POST", "/", body=body() if how == "upload" else b"x", timeout_s=30)

        cancelled = 0
        for steps in (*range(30), *(int(30 * 1.2**power) for power in range(60))):
            task = asyncio.create_task(call())
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled += 1
            # The slot is free: the next one gets it, and its end.
            await asyncio.wait_for(call(), WITHIN_S)
            assert client.idle_connections == 1
        await task

        assert cancelled > 5
        await client.aclose()
        assert client.open_connections == 0


@pytest.mark.spec("ORCH-3068-004")
async def test_a_request_on_a_connection_that_was_closed_meanwhile_is_sent_again_only_where_it_may_be() -> None:
    asked = []

    async def closes(peer: Peer) -> None:
        """Answer once; close when asked again, without an answer."""
        asked.append((await peer.asked()).line)
        await peer.send(OK)
        asked.append((await peer.asked()).line)

    async with serving(closes) as server:
        client = HttpClient(server.url)
        for method, repeatable in (("GET", None), ("POST", True)):
            await client.request("GET", "/", timeout_s=10)
            answer = await client.request(method, "/again", timeout_s=10, repeatable=repeatable)
            assert answer.body == b"ok"
        for repeatable in (None, False):
            await client.request("GET", "/", timeout_s=10)
            with pytest.raises(ConnectionLost, match="without an answer"):
                await client.request("POST", "/once", timeout_s=10, repeatable=repeatable)
        await client.aclose()

    assert sum("/again" in line for line in asked) == 4
    assert sum("/once" in line for line in asked) == 2


@pytest.mark.spec("ORCH-3068-004")
async def test_a_connection_that_the_server_closed_in_time_is_not_used() -> None:
    async def closes(peer: Peer) -> None:
        await peer.asked()
        await peer.send(OK)

    async with serving(closes) as server:
        client = HttpClient(server.url)
        for _ in range(5):
            # A POST is never sent twice: had it been sent on the closed connection, it would fail.
            assert (await client.request("POST", "/", timeout_s=10)).body == b"ok"
            await asyncio.wait_for(server.closed.get(), WITHIN_S)
        await client.aclose()


@pytest.mark.spec("ORCH-3068-003")
async def test_connections_are_kept_no_longer_than_they_may() -> None:
    wire = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n"
    async with serving(always(wire)) as server:
        client = HttpClient(server.url, settings=HttpSettings(keep_idle=1, keep_idle_s=0.05))
        await asyncio.gather(*(client.request("GET", "/", timeout_s=10) for _ in range(3)))
        assert client.idle_connections == 1
        for _ in range(3):
            await asyncio.wait_for(server.closed.get(), WITHIN_S)

        assert client.idle_connections == client.open_connections == 0
        await client.aclose()


@pytest.mark.spec("ORCH-3068-001")
async def test_where_nobody_listens_the_request_provably_never_left() -> None:
    async with serving(silent) as server:
        pass
    client = HttpClient(server.url)

    with pytest.raises(ConnectFailed, match="is the server running"):
        await client.request("GET", "/", timeout_s=10)
    await client.aclose()


@pytest.mark.spec("ORCH-3068-001")
async def test_a_name_without_an_address_is_a_connection_that_failed() -> None:
    client = HttpClient("http://no-such-host.invalid:80", settings=HttpSettings(proxy_from_environment=False))

    with pytest.raises(AdapterError) as caught:
        await client.request("GET", "/", timeout_s=10)
    assert isinstance(caught.value, ConnectFailed)
    await client.aclose()


@pytest.mark.spec("ORCH-3068-015")
async def test_a_name_is_reached_by_whichever_of_its_addresses_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `localhost`'s two addresses the server has one; a third one never says anything."""
    loop = asyncio.get_running_loop()
    connects, tried = loop.sock_connect, []

    async def found(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(10, 1, 6, "", ("::1", port, 0, 0)), (2, 1, 6, "", ("127.0.0.9", port)), (2, 1, 6, "", (host, port))]

    async def connect(sock: object, address: tuple[object, ...]) -> None:
        tried.append(address[0])
        if address[0] == "127.0.0.9":
            await asyncio.Event().wait()
        await connects(sock, ("127.0.0.1", address[1]) if address[0] == "engine.test" else address)  # type: ignore[arg-type]

    async with serving(always(OK)) as server:
        monkeypatch.setattr(loop, "getaddrinfo", found)
        monkeypatch.setattr(loop, "sock_connect", connect)
        client = HttpClient(f"http://engine.test:{server.port}", settings=HttpSettings(proxy_from_environment=False))

        assert (await client.request("GET", "/", timeout_s=10)).body == b"ok"
        assert tried == ["::1", "127.0.0.9", "engine.test"]
        await client.aclose()
