"""Adapters for the tests of the Triton adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton


@pytest.fixture
async def adapter(triton: EmbeddedTriton) -> AsyncIterator[TritonAdapter]:
    """An open adapter on the shared server."""
    async with TritonAdapter(TritonSettings(url=triton.grpc_url)) as adapter:
        yield adapter
