"""Proxies, from settings and from the environment."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from adapter_api import ConfigurationError, ConnectFailed, Unauthenticated
from adapter_kit import sockets
from adapter_kit.http import HttpClient, HttpSettings
from adapter_kit.http.origin import parse_origin
from adapter_kit.http.proxies import proxy_for
from tests.adapter_kit.http.peers import OK, Asked, Peer, always, serving
from tests.adapter_kit.http.test_tls import AUTHORITY, context, write

pytestmark = pytest.mark.spec("ORCH-3068-014")

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.anyio
async def test_a_plain_request_goes_to_the_proxy_whole() -> None:
    seen: list[Asked] = []

    async def proxy(peer: Peer) -> None:
        while True:
            seen.append(await peer.asked())
            await peer.send(OK)

    async with serving(proxy) as server:
        named = SecretStr(server.url.replace("//", "//us%20er:pa%3Ass@"))
        client = HttpClient("http://engine.test:8000/v1", settings=HttpSettings(proxy=named))
        for _ in range(2):
            assert (await client.request("GET", "/models", timeout_s=10)).body == b"ok"
        await client.aclose()

    assert server.connections == 1
    assert seen[0].line == "GET http://engine.test:8000/v1/models HTTP/1.1"
    assert seen[0].headers["host"] == "engine.test:8000"
    assert seen[0].headers["proxy-authorization"] == "Basic dXMgZXI6cGE6c3M="


@pytest.mark.anyio
async def test_an_https_engine_is_reached_through_a_tunnel(tmp_path: Path) -> None:
    tunnels: list[str] = []

    async with serving(always(OK), tls=context()) as engine:

        async def proxy(peer: Peer) -> None:
            tunnels.append((await peer.asked()).line)
            reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
                sink.close()

            try:
                await asyncio.gather(pass_on(peer.reader, writer), pass_on(reader, peer.writer))
            finally:
                writer.close()

        async with serving(proxy) as server:
            settings = HttpSettings(proxy=SecretStr(server.url), tls=write(tmp_path, AUTHORITY))
            client = HttpClient(engine.url, settings=settings)
            for _ in range(2):
                assert (await client.request("GET", "/", timeout_s=10)).body == b"ok"
            await client.aclose()

    assert tunnels == [f"CONNECT localhost:{engine.port} HTTP/1.1"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said, error",
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Unauthenticated),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ConnectFailed),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", ConnectFailed),
        (b"what?\r\n\r\n", ConnectFailed),
        (b"", ConnectFailed),
        (b"x" * 100_000, ConnectFailed),
    ],
)
async def test_a_proxy_that_opens_no_way_is_named(said: bytes, error: type[Exception], tmp_path: Path) -> None:
    async def proxy(peer: Peer) -> None:
        await peer.asked()
        await peer.send(said)

    async with serving(proxy) as server:
        settings = HttpSettings(proxy=SecretStr(server.url), tls=write(tmp_path, trustme.CA()))
        client = HttpClient("https://engine.test", settings=settings)
        with pytest.raises(error, match=f"the proxy {server.url}"):
            await client.request("GET", "/", timeout_s=10)
        assert client.open_connections == 0
        await client.aclose()


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3068-005")
async def test_a_proxy_that_breaks_off_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    connected = sockets._connected

    async def watched(*args: Any) -> socket.socket:
        made.append(await connected(*args))
        return made[-1]

    monkeypatch.setattr(sockets, "_connected", watched)

    async def proxy(peer: Peer) -> None:
        await peer.asked()
        peer.reset()

    async with serving(proxy) as server:
        settings = HttpSettings(proxy=SecretStr(server.url), tls=write(tmp_path, trustme.CA()))
        client = HttpClient("https://engine.test", settings=settings)
        with pytest.raises(ConnectFailed):
            await client.request("GET", "/", timeout_s=10)
        await client.aclose()

    assert [each.fileno() for each in made] == [-1]


@pytest.mark.parametrize(
    "environment, engine, expected",
    [
        ({}, "http://h:1", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://h:1", "http://p:3128"),
        ({"http_proxy": "p:3128"}, "http://h:1", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://h:1", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://h", "http://p:3128"),
        ({"ALL_PROXY": "http://p:3128"}, "https://h", "http://p:3128"),
        ({"HTTP_PROXY": "https://p"}, "http://h", "https://p:443"),
        ({"HTTP_PROXY": "http://p:3128"}, "http://localhost:1", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://127.0.0.1:1", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://[::1]:1", None),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "h"}, "http://h:1", None),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "other,.lan"}, "http://h.lan:1", None),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "*"}, "http://h:1", None),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "other"}, "http://h:1", "http://p:3128"),
    ],
)
def test_the_environment_says_through_whom(
    environment: dict[str, str], engine: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(parse_origin(engine), HttpSettings())

    assert (None if found is None else str(found.origin)) == expected
    assert proxy_for(parse_origin(engine), HttpSettings(proxy_from_environment=False)) is None


@pytest.mark.parametrize("proxy", ["socks5://p:1080", "https://p:443", "http://", "http://p:x", "ftp://p"])
def test_a_proxy_that_cannot_be_used_is_refused_at_once(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="the setting `proxy`"):
        HttpClient("https://h", settings=HttpSettings(proxy=SecretStr(proxy)))
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        HttpClient("https://h")


@pytest.mark.parametrize("url", [
    "h:1", "ftp://h", "http://", "http://h:x", "http://h:0", "http://h:70000", "http://u:secret@h", "http://h/?q=1",
    "http://h/#f", "http://h/a b", "http://h h/", "http://h\r\n/", "grpc://h:1",
])  # fmt: skip
def test_a_url_that_is_none_is_refused_at_once_without_what_it_holds(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpClient(url)

    assert "secret" not in caught.value.message


@pytest.mark.anyio
@pytest.mark.parametrize("proxy", ["http://us:geheim@127.0.0.1:1", "http://us:geheim@proxy.invalid:1"])
async def test_a_proxy_that_is_not_there_is_told_apart_from_the_engine(proxy: str) -> None:
    client = HttpClient("http://engine.test:8000", settings=HttpSettings(proxy=SecretStr(proxy)))

    with pytest.raises(ConnectFailed, match=r"^the proxy .* on the way to http://engine.test:8000: ") as refused:
        await client.request("GET", "/", timeout_s=20)

    await client.aclose()
    assert "geheim" not in refused.value.message
