"""A model whose last request died or hung is not trusted, however ready the server calls it, and not for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from adapter_api import Error, HealthReport, HealthState, TaskRequest
from adapter_api.testing import collect
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.engine.engine import DISTRUST_S
from triton_adapter.testing import FakeModel, FakeTriton

pytestmark = pytest.mark.anyio


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


@pytest.fixture
def model(fake: FakeTriton) -> FakeModel:
    return fake.model("m")


@pytest.fixture
async def adapter(fake: FakeTriton, model: FakeModel) -> AsyncIterator[TritonAdapter]:
    """An adapter that has just seen its only model's process die."""
    async with TritonAdapter(TritonSettings(url=fake.grpc_url, max_retries=0)) as adapter:
        model.kill_stub()
        (*_, error) = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))
        assert isinstance(error, Error)
        assert error.code == "engine_failed"
        yield adapter


def ready(report: HealthReport) -> dict[str, bool]:
    return {model.name: model.ready for model in report.models}


async def test_it_is_not_ready_and_the_report_says_why(adapter: TritonAdapter) -> None:
    report = await adapter.health()

    assert (report.state, report.ready, ready(report)) == (HealthState.DEGRADED, False, {"m": False})
    assert "its last request failed" in report.detail
    assert not await adapter.models.ready("m")
    assert [model.ready for model in (await adapter.props()).models] == [False]


@pytest.mark.spec("ORCH-3057-010")
async def test_it_is_trusted_again_after_a_while_so_that_a_request_may_prove_it_well(
    adapter: TritonAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = anyio.current_time()
    monkeypatch.setattr("triton_adapter.engine.engine.monotonic", lambda: now + DISTRUST_S + 1)

    report = await adapter.health()

    assert (report.state, ready(report)) == (HealthState.READY, {"m": True})
    assert await adapter.models.ready("m")


async def test_it_is_trusted_again_when_somebody_else_loads_it_anew(adapter: TritonAdapter, model: FakeModel) -> None:
    model.unload()
    assert ready(await adapter.health()) == {"m": False}
    model.load()

    assert (await adapter.health()).state is HealthState.READY


@pytest.mark.spec("ORCH-3057-010")
async def test_it_is_trusted_again_when_the_server_was_away(
    adapter: TritonAdapter, fake: FakeTriton, model: FakeModel
) -> None:
    fake.die()
    assert (await adapter.health()).state is HealthState.UNREACHABLE
    model.load()
    fake.revive()

    with anyio.fail_after(10):
        while (report := await adapter.health()).state is HealthState.UNREACHABLE:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)
    assert report.state is HealthState.READY


async def test_it_is_trusted_again_when_a_request_works(adapter: TritonAdapter, model: FakeModel) -> None:
    model.load()
    await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert (await adapter.health()).state is HealthState.READY
