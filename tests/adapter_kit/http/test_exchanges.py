"""Requests and answers that are in order."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from adapter_api import AdapterClosed, InvalidRequest, ProtocolViolation
from adapter_kit.http import HttpClient, HttpSettings
from tests.adapter_kit.http.peers import OK, Peer, always, once, serving

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * 20_000


async def echo(peer: Peer) -> None:
    while True:
        asked = await peer.asked()
        await peer.send(b"HTTP/1.1 200 OK\r\nX-Line: %b\r\n" % asked.line.encode())
        await peer.send(b"Content-Length: %d\r\n\r\n" % len(asked.body) + asked.body)


@pytest.mark.spec("ORCH-3068-003")
async def test_one_connection_serves_one_request_after_another() -> None:
    async with serving(echo) as server:
        client = HttpClient(server.url + "/v1/")
        answers = [await client.request("POST", "/x?y=1", body=b"%d" % each, timeout_s=10) for each in range(5)]

        assert [answer.body for answer in answers] == [b"0", b"1", b"2", b"3", b"4"]
        assert answers[0].headers["x-line"] == "POST /v1/x?y=1 HTTP/1.1"
        assert server.connections == client.idle_connections == client.open_connections == 1
        await client.aclose()
        assert client.open_connections == 0


@pytest.mark.spec("ORCH-3068-003")
@pytest.mark.parametrize("wire", [
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than was announced",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
])  # fmt: skip
async def test_a_connection_is_not_used_again_after_an_answer_that_forbids_it(wire: bytes) -> None:
    async with serving(always(wire)) as server:
        client = HttpClient(server.url)
        for _ in range(3):
            assert (await client.request("GET", "/", timeout_s=10)).body == b"ok"

        assert server.connections == 3
        await client.aclose()


@pytest.mark.spec("ORCH-3068-017", "ORCH-3068-018")
async def test_a_large_body_goes_out_of_its_buffers_and_comes_into_one() -> None:
    async with serving(echo) as server:
        client = HttpClient(server.url)
        parts: list[bytes | bytearray | memoryview] = [b"head", memoryview(LARGE), bytearray(b"tail")]
        answer = await client.request("POST", "/", body=parts, timeout_s=30)

        assert answer.body == b"head" + LARGE + b"tail"
        with pytest.raises(ProtocolViolation, match="longer than 1000 bytes"):
            await client.request("POST", "/", body=LARGE, timeout_s=30, limit=1000)
        assert (await client.request("POST", "/", body=b"x", timeout_s=10)).body == b"x"
        await client.aclose()


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"one ", b"", b"two"):
        await asyncio.sleep(0)
        yield piece


@pytest.mark.spec("ORCH-3068-018")
async def test_a_body_of_unknown_length_goes_out_in_chunks() -> None:
    async with serving(echo) as server:
        client = HttpClient(server.url)

        assert (await client.request("POST", "/", body=pieces(), timeout_s=10)).body == b"one two"
        await client.aclose()


@pytest.mark.spec("ORCH-3068-018")
async def test_a_refusal_in_the_middle_of_the_upload_is_the_answer() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await peer.gone()

    async with serving(refuse) as server:
        client = HttpClient(server.url)
        answer = await client.request("POST", "/", body=[LARGE] * 20, timeout_s=30)

        assert (answer.status, answer.body) == (413, b"no!")
        assert client.idle_connections == 0
        await client.aclose()


@pytest.mark.spec("ORCH-3068-006")
@pytest.mark.parametrize(
    "wire, status, body",
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 3\r\n\r\n", 503, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nTrailer: t\r\n\r\n", 200, b"ok"),
    ],
)
async def test_interim_answers_and_answers_without_a_body_are_what_they_are(
    wire: bytes, status: int, body: bytes
) -> None:
    async with serving(always(wire)) as server:
        client = HttpClient(server.url)
        for _ in range(2):
            answer = await client.request("GET", "/", timeout_s=10)
            assert (answer.status, answer.body) == (status, body)
        assert server.connections == 1
        await client.aclose()


@pytest.mark.spec("ORCH-3068-006")
async def test_head_has_headers_and_no_body() -> None:
    async with serving(always(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")) as server:
        client = HttpClient(server.url)
        answer = await client.request("HEAD", "/", timeout_s=10)

        assert (answer.headers["content-length"], answer.body) == ("1000000", b"")
        await client.aclose()


@pytest.mark.spec("ORCH-3068-007")
async def test_a_body_that_only_the_close_ends_says_so() -> None:
    async with serving(once(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as server:
        client = HttpClient(server.url)
        async with client.stream("GET", "/", timeout_s=10) as answer:
            assert not answer.delimited
            assert b"".join([data async for data in answer.chunks()]) == b"all of it"
        await client.aclose()


@pytest.mark.spec("ORCH-3068-010")
@pytest.mark.parametrize(
    "path, headers",
    [
        ("/a b", {}), ("/a\r\nX: y", {}), ("/\xe9", {}), ("/a#b", {}), ("/\x00", {}), ("http://elsewhere/", {}),
        ("/", {"X": "a\r\nY: b"}), ("/", {"X": "a\nb"}), ("/", {"X": "a\x00"}), ("/", {"X\r\n": "a"}),
        ("/", {"X Y": "a"}), ("/", {"": "a"}), ("/", {"X:": "a"}), ("/", {"X": "€"}),
        ("/", {"Content-Length": "3"}), ("/", {"transfer-encoding": "chunked"}), ("/", {"Host": "other"}),
    ],
)  # fmt: skip
async def test_what_cannot_be_said_in_http_is_refused_before_anything_is_sent(
    path: str, headers: dict[str, str]
) -> None:
    async with serving(always(OK)) as server:
        client = HttpClient(server.url)

        with pytest.raises(InvalidRequest):
            await client.request("GET", path, headers=headers, timeout_s=10)
        assert server.connections == 0
        await client.aclose()


@pytest.mark.spec("ORCH-3068-010")
@pytest.mark.parametrize("method", ["get", "GET /x HTTP/1.1\r\nX:", "", "CONNECT"])
async def test_a_method_is_a_word_in_capitals(method: str) -> None:
    with pytest.raises(InvalidRequest):
        await HttpClient("http://127.0.0.1:9").request(method, "/", timeout_s=1)


@pytest.mark.spec("ORCH-3068-012")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate", "two members"])
@pytest.mark.parametrize("framed", [True, False])
async def test_packed_answers_are_unpacked(coding: str, framed: bool) -> None:
    text = LARGE[:700_000]
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "raw deflate": raw.compress(text) + raw.flush(),
        "two members": gzip.compress(text[:100]) + gzip.compress(text[100:]),
    }[coding]
    name = b"deflate" if "deflate" in coding else b"gzip"
    length = b"Content-Length: %d\r\n" % len(data) if framed else b"Connection: close\r\n"
    async with serving(once(b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\n%b\r\n" % (name, length) + data)) as server:
        client = HttpClient(server.url, settings=HttpSettings(accept_compression=True))

        assert (await client.request("GET", "/", timeout_s=10)).body == text
        await client.aclose()


@pytest.mark.spec("ORCH-3068-012")
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_bodies_are_packed_where_that_is_set(coding: str) -> None:
    seen = []

    async def see(peer: Peer) -> None:
        while True:
            seen.append(await peer.asked())
            await peer.send(OK)

    async with serving(see) as server:
        client = HttpClient(server.url, settings=HttpSettings.model_validate({"compression": coding}))
        await client.request("POST", "/", body=b"small", timeout_s=10)
        await client.request("POST", "/", body=[LARGE[:2000], LARGE[2000:]], timeout_s=10)
        await client.aclose()

    assert seen[0].body == b"small"
    assert "content-encoding" not in seen[0].headers
    assert seen[0].headers["accept-encoding"] == "identity"
    assert seen[1].headers["content-encoding"] == coding
    assert zlib.decompress(seen[1].body, zlib.MAX_WBITS + 32) == LARGE


@pytest.mark.spec("ORCH-3068-011")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_within_the_server_are_followed(status: int) -> None:
    async def lead(peer: Peer) -> None:
        while True:
            asked = await peer.asked()
            if asked.line.startswith(("GET /a ", "POST /a ")):
                await peer.send(b"HTTP/1.1 %d X\r\nLocation: b?c=1\r\nContent-Length: 4\r\n\r\nhere" % status)
            else:
                body = f"{asked.line} {asked.body!r}".encode()
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with serving(lead) as server:
        client = HttpClient(server.url)
        assert (await client.request("GET", "/a", timeout_s=10)).body == b"GET /b?c=1 HTTP/1.1 b''"
        if status in (301, 302):
            with pytest.raises(ProtocolViolation, match="would drop its body"):
                await client.request("POST", "/a", body=b"x", timeout_s=10)
        else:
            answer = await client.request("POST", "/a", body=b"x", timeout_s=10)
            expected = b"GET /b?c=1 HTTP/1.1 b''" if status == 303 else b"POST /b?c=1 HTTP/1.1 b'x'"
            assert answer.body == expected
        await client.aclose()


@pytest.mark.spec("ORCH-3068-011")
@pytest.mark.parametrize("location", [
    b"http://127.0.0.1:1/", b"https://127.0.0.1/", b"//elsewhere/x", b"file:///etc/passwd", b"http://[", b"/a b", b"/",
])  # fmt: skip
async def test_a_redirect_elsewhere_or_without_an_end_is_an_error(location: bytes) -> None:
    wire = b"HTTP/1.1 307 X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
    async with serving(always(wire)) as server:
        client = HttpClient(server.url)

        with pytest.raises(ProtocolViolation, match="redirects"):
            await client.request("GET", "/", timeout_s=10)
        assert client.open_connections <= 1
        await client.aclose()


@pytest.mark.spec("ORCH-3068-016")
async def test_a_client_that_is_closed_ends_what_is_under_way() -> None:
    arrived = asyncio.Event()

    async def never(peer: Peer) -> None:
        await peer.asked()
        arrived.set()
        await peer.gone()

    async with serving(never) as server:
        client = HttpClient(server.url)
        call = asyncio.create_task(client.request("GET", "/", timeout_s=30))
        await arrived.wait()
        await client.aclose()

        with pytest.raises(AdapterClosed):
            await call
        with pytest.raises(AdapterClosed):
            await client.request("GET", "/", timeout_s=10)
        assert await server.closed.get() == 1
        await client.aclose()
