"""Which transport carries gRPC, and that it says so."""

from __future__ import annotations

import pytest

from adapter_api import ConfigurationError
from tests.triton_adapter.ways import url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.testing import FakeTriton
from triton_adapter.transports.choosing import make_transport

pytestmark = pytest.mark.spec("ORCH-3072-006")

PROXY = {"https_proxy": "http://127.0.0.1:9"}
NONE = {"no_proxy": "*"}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc", "http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.mark.parametrize(
    "options, environment, kind",
    [
        ({}, {}, "h2"),
        ({"transport": "h2"}, {}, "h2"),
        ({"transport": "grpcio"}, {}, "grpcio (asked for)"),
        ({}, PROXY, "grpcio (the way leads through the proxy that https_proxy names)"),
        ({}, PROXY | NONE, "h2"),
        ({"transport": "h2"}, PROXY | NONE, "h2"),
        ({"url": "grpc://localhost:8001"}, PROXY, "h2"),
        ({"url": "http+v2://engine:8000"}, {}, "HTTP/1.1"),
    ],
)
def test_auto_takes_our_own_unless_a_proxy_stands_between(
    options: dict[str, str], environment: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert make_transport(TritonSettings.model_validate({"url": "grpc://engine:8001"} | options)).kind == kind


def test_our_own_is_not_taken_through_a_proxy_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", PROXY["https_proxy"])

    with pytest.raises(ConfigurationError, match="no_proxy"):
        make_transport(TritonSettings(url="grpc://engine:8001", transport="h2"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "settings, said", [({}, "h2"), ({"transport": "grpcio"}, "grpcio (asked for)"), ({}, "HTTP/1.1")]
)
async def test_props_say_what_carries_the_calls(settings: dict[str, str], said: str) -> None:
    async with FakeTriton() as fake:
        url = url_of(fake, "http" if said.startswith("HTTP") else "grpc")
        async with TritonAdapter(TritonSettings.model_validate({"url": url} | settings)) as adapter:
            assert (await adapter.props()).transport == said
