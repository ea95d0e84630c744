"""The fixture `fake_triton`; installed through pytest's entry point, and light until a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server import FakeTriton


@pytest.fixture
def fake_triton() -> Iterator[FakeTriton]:
    """A `FakeTriton` that runs for one test; what the test expects of requests is checked at its end."""
    from .server import FakeTriton

    with FakeTriton() as fake:
        yield fake
    fake.check()
