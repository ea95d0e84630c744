"""Addresses where there is no engine."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def closed_url() -> str:
    """Nothing listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"grpc://127.0.0.1:{port}"


@pytest.fixture
def silent_listener() -> Iterator[socket.socket]:
    """Connections are accepted, by the kernel, and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener


@pytest.fixture
def silent_url(silent_listener: socket.socket) -> str:
    return f"grpc://127.0.0.1:{silent_listener.getsockname()[1]}"


@pytest.fixture
def http_url() -> Iterator[str]:
    """A plain HTTP server answers there."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"grpc://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
