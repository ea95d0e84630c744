"""TLS: whom we trust, who we are, and new files while we run."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
import trustme

from adapter_api import (
    AdapterError,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    ProtocolViolation,
    Unauthenticated,
)
from adapter_kit.http import HttpClient, HttpSettings
from adapter_kit.tls import TlsSettings
from tests.adapter_kit.http.peers import OK, Peer, always, serving

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3068-013")]

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost")
LARGE = bytes(range(256)) * 20_000


def context(*, clients: bool = False) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    SERVER.configure_cert(made)
    if clients:
        AUTHORITY.configure_trust(made)
        made.verify_mode = ssl.CERT_REQUIRED
    made.set_alpn_protocols(["h2", "http/1.1"])
    return made


def write(folder: Path, authority: trustme.CA, ours: trustme.LeafCert | None = None) -> TlsSettings:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    if ours is None:
        return TlsSettings(ca_file=folder / "ca.pem")
    ours.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    ours.private_key_pem.write_to_path(folder / "key.pem")
    return TlsSettings(ca_file=folder / "ca.pem", cert_file=folder / "cert.pem", key_file=folder / "key.pem")


async def test_a_server_that_we_trust_is_spoken_to_in_http_1_1(tmp_path: Path) -> None:
    protocols = []

    async def echo(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        while True:
            asked = await peer.asked()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(asked.body) + asked.body)

    async with serving(echo, tls=context()) as server:
        client = HttpClient(server.url, settings=HttpSettings(tls=write(tmp_path, AUTHORITY)))
        for body in (b"small", LARGE, b"again"):
            assert (await client.request("POST", "/", body=body, timeout_s=30)).body == body

        assert protocols == ["http/1.1"]
        await client.aclose()


async def test_a_stalled_reader_bounds_what_comes_over_tls(tmp_path: Path) -> None:
    async def flood(peer: Peer) -> None:
        await peer.asked()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(200):
            await peer.send(bytes(100_000))

    async with serving(flood, tls=context()) as server:
        tls = write(tmp_path, AUTHORITY)
        client = HttpClient(server.url, settings=HttpSettings(tls=tls, window_bytes=100_000))
        async with client.stream("GET", "/", timeout_s=30) as answer:
            await asyncio.sleep(0.1)
            sizes = [len(data) async for data in answer.chunks()]
        assert sum(sizes) == 20_000_000
        assert max(sizes) <= 100_000 + 128 * 1024
        await client.aclose()


async def test_a_server_that_we_do_not_trust_is_sent_nothing(tmp_path: Path) -> None:
    async with serving(always(OK), tls=context()) as server:
        for authority, name in ((STRANGER, None), (AUTHORITY, "another.name")):
            tls = write(tmp_path, authority).model_copy(update={"server_name": name})
            client = HttpClient(server.url, settings=HttpSettings(tls=tls))
            with pytest.raises(Unauthenticated, match="certificate"):
                await client.request("GET", "/", timeout_s=10)
            await client.aclose()


async def test_a_server_that_asks_for_a_certificate_gets_ours(tmp_path: Path) -> None:
    ours = AUTHORITY.issue_cert("adapter@example.org")
    async with serving(always(OK), tls=context(clients=True)) as server:
        client = HttpClient(server.url, settings=HttpSettings(tls=write(tmp_path, AUTHORITY, ours)))
        assert (await client.request("GET", "/", timeout_s=10)).body == b"ok"
        assert client.certificate_expires_at is not None
        await client.aclose()

        client = HttpClient(server.url, settings=HttpSettings(tls=write(tmp_path, AUTHORITY)))
        with pytest.raises(AdapterError) as caught:
            await client.request("GET", "/", timeout_s=10)
        # TLS 1.3 refuses after the handshake: by an alert, or by what a lost connection leaves of it.
        assert isinstance(caught.value, Unauthenticated | ConnectionLost)
        await client.aclose()


async def test_new_files_are_taken_while_exchanges_on_the_old_ones_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_kit.secret_file._LOOK_EVERY_S", 0.0)
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            asked = await peer.asked()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            if "/wait" in asked.line:
                await more.wait()
            await peer.send(b"k")

    async with serving(script, tls=context(clients=True)) as server:
        tls = write(tmp_path, AUTHORITY, AUTHORITY.issue_cert("first@example.org"))
        client = HttpClient(server.url, settings=HttpSettings(tls=tls))
        async with client.stream("GET", "/wait", timeout_s=30) as answer:
            await client.request("GET", "/", timeout_s=10)
            assert (server.connections, client.idle_connections) == (2, 1)
            write(tmp_path, AUTHORITY, AUTHORITY.issue_cert("second@example.org"))
            os.utime(tmp_path / "cert.pem", (1, 1))

            await client.request("GET", "/", timeout_s=10)
            assert server.connections == 3
            more.set()
            assert await answer.read(10) == b"ok"
        await client.request("GET", "/", timeout_s=10)

        assert (server.connections, client.idle_connections) == (3, 1)
        await client.aclose()


async def test_tls_and_plain_text_that_meet_say_so(tmp_path: Path) -> None:
    tls = write(tmp_path, AUTHORITY)

    async def plain_text(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(plain_text) as plain, serving(always(OK), tls=context()) as secured:
        client = HttpClient(f"https://localhost:{plain.port}", settings=HttpSettings(tls=tls))
        with pytest.raises(ConnectFailed, match="no TLS there"):
            await client.request("GET", "/", timeout_s=10)
        await client.aclose()

        client = HttpClient(f"http://localhost:{secured.port}")
        with pytest.raises((ProtocolViolation, ConnectionLost)):
            await client.request("GET", "/", timeout_s=10)
        await client.aclose()


def test_files_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        HttpClient("https://localhost", settings=HttpSettings(tls=TlsSettings(ca_file=tmp_path / "ca.pem")))
