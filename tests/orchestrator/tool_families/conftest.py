"""One Triton for all tests of the families."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.orchestrator.tool_families.kitchen import MODELS
from triton_adapter.embedded import EmbeddedTriton


@pytest.fixture(scope="session")
def writer() -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(MODELS) as triton:
        yield triton
