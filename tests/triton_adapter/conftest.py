"""Adapters for the tests of the Triton adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.triton_adapter.ways import GRPCIO, chosen, url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.embedded import EmbeddedTriton


@pytest.fixture(scope="package", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all tests here, and no longer: while it is there, nobody else can run one.

    grpc.aio has one poller per process: a call that was cancelled is still told of when the loop it was made in is
    closed already, and the poller then raises in whichever loop runs next.
    """
    yield  # noqa: PT022 - as a generator it holds the loop until the end


@pytest.fixture(params=["grpc", GRPCIO, "http"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Each way to a Triton; see `ways`."""
    return chosen(request.param, monkeypatch)


@pytest.fixture(params=["grpc", GRPCIO, pytest.param("http", marks=pytest.mark.long)])
def live_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Each way to the real server, the others at length: `make test` has a quick proof that all do the same."""
    return chosen(request.param, monkeypatch)


@pytest.fixture
async def adapter(triton: EmbeddedTriton, live_way: Way) -> AsyncIterator[TritonAdapter]:
    """An open adapter on the shared server."""
    async with TritonAdapter(TritonSettings(url=url_of(triton, live_way))) as adapter:
        yield adapter
