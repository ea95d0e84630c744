"""Which tasks are copied, and what a copy that breaks does to the host: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from adapter_api import End, Token, TokenEvent, TokenStream
from adapter_api.testing import collect
from orchestrator import Orchestrator, OrchestratorSettings, PoolSettings
from orchestrator.config.settings import ReplicaSettings
from orchestrator.pools.routing import choose_pool
from orchestrator.rollout.shadow import Shadows, _falls_into_share
from tests.orchestrator.pooling import mock_host, task
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio


def shadow(name: str, percent: float) -> PoolSettings:
    return PoolSettings(
        id=name, adapter="mock", replicas=(ReplicaSettings(id="r0"),), shadow_of="green", shadow_percent=percent
    )


@pytest.mark.spec("ORCH-3065-003")
@pytest.mark.parametrize("percent", [5.0, 20.0, 50.0])
@pytest.mark.parametrize("name", ["s", "candidate", "next-one"])
def test_the_share_holds_within_the_tasks_of_one_pool(name: str, percent: float) -> None:
    weights = [("blue", 90), ("green", 10)]
    jobs = [job for number in range(40_000) if choose_pool(weights, job := f"{number:032x}") == "green"]

    copied = sum(_falls_into_share(job, shadow(name, percent)) for job in jobs)

    assert abs(copied / len(jobs) * 100 - percent) < 3


def test_the_same_task_is_copied_or_not_on_every_machine() -> None:
    assert [_falls_into_share(f"job-{number}", shadow("s", 50)) for number in range(8)] == [
        True, False, True, True, True, True, True, False,
    ]  # fmt: skip


async def one_answer() -> AsyncIterator[list[TokenEvent]]:
    yield [Token(0, "one")]
    yield [End(finish_reason="stop")]


@pytest.mark.spec("ORCH-3065-001")
async def test_a_copy_that_cannot_be_made_leaves_the_host_alone(caplog: pytest.LogCaptureFixture) -> None:
    def submit(twin: object, pool_id: str, held: object) -> TokenStream:
        raise KeyError("no pool 's': a reload took it away")

    shadows = Shadows(submit)
    async with anyio.create_task_group() as shadows.group:
        batches = shadows.copies(one_answer(), task(), "green", [shadow("s", 100)])
        events = [event async for batch in batches for event in batch]

    assert len(events) == 2
    assert "a copy for shadow pool s broke with KeyError" in caplog.text


@pytest.mark.spec("ORCH-3065-001")
async def test_a_copy_that_hangs_has_a_time_limit_though_its_original_has_none() -> None:
    seen = []

    def submit(twin: object, pool_id: str, held: object) -> TokenStream:
        seen.append(twin)
        return TokenStream(one_answer_flat(), job_id="j")

    async def one_answer_flat() -> AsyncIterator[TokenEvent]:
        yield End(finish_reason="stop")

    shadows = Shadows(submit)
    async with anyio.create_task_group() as shadows.group:
        batches = shadows.copies(one_answer(), task(job_id="j" * 128), "green", [shadow("s", 100)])
        assert [batch async for batch in batches]

    (twin,) = seen
    assert getattr(twin, "timeout_s") == 600  # noqa: B009
    assert getattr(twin, "job_id") != "j" * 128  # noqa: B009


async def test_a_copy_of_a_task_that_is_cancelled_is_cancelled() -> None:
    gray = {"id": "gray", "adapter": "mock", "shadow_of": "blue"}
    hanging = [{"id": "r0", "options": {"hang_after": 1}}]
    pools = [{"id": "blue", "adapter": "mock", "replicas": hanging}, {**gray, "replicas": hanging}]
    async with Orchestrator(OrchestratorSettings.parse({"pools": pools}), plugins=mock_host()) as host:
        stream = host.submit(task())
        async for event in stream:
            if isinstance(event, Token):
                break
        await eventually(lambda: [pool.in_flight for pool in host.pools] == [1, 1])
        await host.cancel(stream.job_id)
        await eventually(lambda: [pool.in_flight for pool in host.pools] == [0, 0])


@pytest.mark.spec("ORCH-3065-001")
async def test_a_shadow_that_a_reload_takes_away_takes_nothing_with_it() -> None:
    pools = [
        {"id": "green", "adapter": "mock", "replicas": [{"id": "r0"}]},
        {"id": "s", "adapter": "mock", "shadow_of": "green", "replicas": [{"id": "r0", "options": {"delay_s": 0.05}}]},
    ]
    async with Orchestrator(OrchestratorSettings.parse({"pools": pools}), plugins=mock_host()) as host:
        await collect(host.submit(task()))
        await host.reload(OrchestratorSettings.parse({"pools": pools[:1]}))
        await eventually(lambda: not host.live_tasks)

        assert isinstance((await collect(host.submit(task())))[-1], End)
