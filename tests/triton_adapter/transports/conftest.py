"""All transports, also those that elsewhere wait for the long tests."""

from __future__ import annotations

import pytest

from tests.triton_adapter.ways import chosen
from triton_adapter.address import Way


@pytest.fixture(params=["grpc", "grpcio", "http"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Each transport."""
    return chosen(request.param, monkeypatch)
