"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from adapter_api import ConfigurationError
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.embedded.layout import check_supported

# The same examples in every run, and as much time as a busy machine takes for them.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `live` where no server can run; where one can, a start that fails is a failure."""
    live = [item for item in items if item.get_closest_marker("live")]
    if not live:
        return
    try:
        check_supported()
    except ConfigurationError as refused:
        skip = pytest.mark.skip(reason=f"{refused.message}; for instance `make test PYTHON=python3.12`")
        for item in live:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def triton() -> Iterator[EmbeddedTriton]:
    """One real Triton server with the demo models, shared by all tests marked `live`.

    It is in explicit mode, so a test may load and unload models; it must leave them as it found them. A test that
    pauses, kills or stops a server starts one of its own.
    """
    with EmbeddedTriton(model_control_mode="explicit", load_models=["*"]) as server:
        yield server
        # Otherwise a death shows only as failures of whatever came after it.
        assert server.is_running, f"the shared Triton server died:\n{server.log_tail(60)}"
