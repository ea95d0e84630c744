"""One host for all clients of a worker, and a page of another origin that may call it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.orchestrator.real_clients.shop import Shop, shop_of


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Origin:
    """A web server of static files."""

    url: str
    folder: Path


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("page")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Origin(f"http://127.0.0.1:{server.server_port}", folder)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Shop]:
    with shop_of(tmp_path_factory.mktemp("host"), cors_origins=[origin.url]) as running:
        yield running
