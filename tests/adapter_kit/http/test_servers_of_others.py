"""Servers that nobody here wrote: uvicorn, Python's own, and nginx where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from adapter_api import ConnectFailed
from adapter_kit.http import HttpClient, HttpSettings
from adapter_kit.sse import SseReader
from tests.adapter_kit.http.peers import WITHIN_S

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3068-003", "ORCH-3068-018")]

LARGE = bytes(range(256)) * 20_000


class App:
    """Echoes bodies, streams events, and remembers who left."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/echo":
            await send({"type": "http.response.body", "body": body, "more_body": True})
        for number in range(3 if scope["path"] == "/events" else 0):
            await send({"type": "http.response.body", "body": b"data: %d\r\n\r\n" % number, "more_body": True})
        if scope["path"] == "/endless":
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
        await send({"type": "http.response.body"})


@asynccontextmanager
async def uvicorn_with(app: App, http: str) -> AsyncIterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, lifespan="off", log_level="error", ws="none")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve([sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, WITHIN_S)


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_uvicorn_echoes_streams_and_sees_its_client_go(http: str) -> None:
    app = App()
    async with uvicorn_with(app, http) as url:
        client = HttpClient(url)
        for body in (b"small", LARGE, b""):
            assert (await client.request("POST", "/echo", body=body, timeout_s=30)).body == body
        reader, events = SseReader(), []
        async with client.stream("GET", "/events", timeout_s=30) as answer:
            async for data in answer.chunks():
                events += [event.data for event in reader.feed(data)]
        assert events == [b"0", b"1", b"2"]
        assert client.open_connections == client.idle_connections == 1

        async with client.stream("GET", "/endless", timeout_s=30) as answer:
            assert await answer.next_chunk() == b"data: x\n\n"
        await asyncio.wait_for(app.left.wait(), WITHIN_S)
        await client.aclose()


@contextlib.contextmanager
def pythons_own(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(WITHIN_S)


async def test_pythons_own_server_of_http_1_0_serves_files(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "folder").mkdir()
    with pythons_own(tmp_path) as url:
        client = HttpClient(url)
        assert (await client.request("GET", "/large", timeout_s=30)).body == LARGE
        assert (await client.request("GET", "/none", timeout_s=30)).status == 404
        assert (await client.request("HEAD", "/large", timeout_s=30)).headers["content-length"] == str(len(LARGE))
        # A folder without its slash is redirected to itself with one.
        assert (await client.request("GET", "/folder", timeout_s=30)).status == 200
        await client.aclose()


NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 10m; client_body_buffer_size 10m;
    gzip on; gzip_min_length 100;
    gzip_types *;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {backend}; proxy_buffering off; }} }}
}}
"""


async def listening(client: HttpClient) -> None:
    """Wait until a server listens: until then, nothing that is sent to it leaves."""
    while True:
        with contextlib.suppress(ConnectFailed):
            await client.request("GET", "/", timeout_s=5)
            return


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("nginx") is None, reason="nginx is not installed (Debian: apt-get install nginx-light)"
)
async def test_nginx_in_front_packs_and_streams_and_passes_on_that_its_client_went(tmp_path: Path) -> None:
    app = App()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with uvicorn_with(app, "httptools") as backend:
        (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, backend=backend))
        command = ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
        process = await asyncio.create_subprocess_exec(*command)
        try:
            client = HttpClient(f"http://127.0.0.1:{port}", settings=HttpSettings(accept_compression=True))
            async with asyncio.timeout(WITHIN_S):
                await listening(client)
            for body in (b"small", LARGE):
                answer = await client.request("POST", "/echo", body=body, timeout_s=30, repeatable=True)
                assert answer.body == body
            assert answer.headers["content-encoding"] == "gzip"
            assert (await client.request("POST", "/echo", body=LARGE * 3, timeout_s=30)).status == 413
            async with client.stream("GET", "/endless", timeout_s=30) as streamed:
                assert await streamed.next_chunk()
            await asyncio.wait_for(app.left.wait(), WITHIN_S)
            await client.aclose()
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), WITHIN_S)
