"""The ways to a Triton, for tests that hold on each of them.

A test that takes the fixture `way` runs by every way, gRPC by both of its transports; `over_grpc` and `over_http` keep
one to a single way, and say why there. What a test starts it reaches by `url_of`, and breaks by `proxy_of`.
"""

from __future__ import annotations

import pytest

from triton_adapter.address import Way
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton, FaultProxy
from triton_adapter.transports import choosing

GRPCIO = pytest.param("grpcio", marks=pytest.mark.long)
"""gRPC over grpcio, where "grpc" is that over our own HTTP/2: at length, as both run through the same tests."""
over_grpc = pytest.mark.parametrize("way", ["grpc", GRPCIO], indirect=True)
over_http = pytest.mark.parametrize("way", ["http"], indirect=True)


def url_of(server: FakeTriton | EmbeddedTriton, way: Way) -> str:
    """Return where an adapter goes that speaks to a server by `way`."""
    return server.grpc_url if way == "grpc" else server.http_url.replace("http://", "http+v2://")


def proxy_of(fake: FakeTriton, way: Way) -> FaultProxy:
    """Return what stands before a fake by `way`."""
    return fake.proxy if way == "grpc" else fake.http_proxy


def stream_call(way: Way) -> str:
    """Return how the fake names a streamed inference that came by `way`."""
    return "ModelStreamInfer" if way == "grpc" else "generate_stream"


def chosen(param: str, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Return the way that a parameter names, and have gRPC go by that transport."""
    monkeypatch.setattr(choosing, "AUTO", "grpcio" if param == "grpcio" else "h2")
    return "http" if param == "http" else "grpc"


live_over_grpc = pytest.mark.parametrize("live_way", ["grpc", GRPCIO], indirect=True)
"""For a test of the real server that has nothing to say of another way."""
