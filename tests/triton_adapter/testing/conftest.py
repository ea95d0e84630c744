"""The server that a test may ask for twice: once real, once fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.triton_adapter.testing.demo_models import add_demo_models
from tests.triton_adapter.testing.v2client import V2Client, connect
from triton_adapter.testing import FakeTriton


class Server(NamedTuple):
    """Where a server with the demo models listens."""

    grpc_url: str
    http_url: str

    @property
    def grpc_address(self) -> str:
        return self.grpc_url.partition("://")[2]

    @property
    def http_address(self) -> str:
        return self.http_url.partition("://")[2]


@pytest.fixture(scope="module", params=[pytest.param("real", marks=pytest.mark.live), "fake"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The real server and the fake one, configured alike."""
    if request.param == "real":
        triton = request.getfixturevalue("triton")
        yield Server(triton.grpc_url, triton.http_url)
        return
    with FakeTriton() as fake:
        add_demo_models(fake)
        yield Server(fake.grpc_url, fake.http_url)


@pytest.fixture
def client(server: Server) -> Iterator[V2Client]:
    with connect(server.grpc_url) as connected:
        yield connected


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running
