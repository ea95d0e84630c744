"""Which pool a task falls to, and what another pool knows of a session: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import End, Error, Metrics, Started, TokenEvent
from adapter_api.testing import collect
from orchestrator import Orchestrator, OrchestratorSettings
from tests.orchestrator.pooling import mock_host, task

pytestmark = pytest.mark.anyio


def two_pools(blue: dict[str, Any], green: dict[str, Any]) -> Orchestrator:
    replicas = [{"id": "r0"}]
    pools = [{"adapter": "mock", "replicas": replicas, "id": "blue", **blue},
             {"adapter": "mock", "replicas": replicas, "id": "green", **green}]  # fmt: skip
    return Orchestrator(OrchestratorSettings.parse({"pools": pools, "read_environment": False}), plugins=mock_host())


def warmth(events: list[TokenEvent]) -> list[object]:
    return [event.engine["kv_warmth"] for event in events if isinstance(event, Metrics) and event.engine]


@pytest.mark.spec("ORCH-3055-032")
async def test_a_session_that_goes_to_another_pool_is_cold_though_the_replicas_have_one_name() -> None:
    async with two_pools({}, {"weight": 0}) as host:
        first = await collect(host.submit(task(session_id="s")))
        again = await collect(host.submit(task(session_id="s")))
        await host.drain("blue")
        blue, green = host.settings.pools
        raised = green.model_copy(update={"weight": 100})
        await host.reload(host.settings.model_copy(update={"pools": (blue, raised)}))
        moved = await collect(host.submit(task(session_id="s")))

    assert [event.pool_id for event in moved if isinstance(event, Started)] == ["green"]
    assert (warmth(first), warmth(again), warmth(moved)) == ([0], [1], [0])


@pytest.mark.spec("ORCH-3055-028")
async def test_a_pool_without_weight_gets_nothing_even_when_it_alone_is_ready() -> None:
    ill = {"replicas": [{"id": "r0", "options": {"state": "unreachable", "models": ["mock"]}}]}
    async with two_pools({**ill, "queue": {"not_ready_wait_s": 0.01}}, {"weight": 0}) as host:
        (error,) = await collect(host.submit(task()))

    assert isinstance(error, Error)
    assert error.code == "not_ready"


@pytest.mark.spec("ORCH-3055-031")
async def test_a_session_stays_at_its_pool() -> None:
    async with two_pools({}, {}) as host:
        pools = set()
        for _ in range(8):
            events = await collect(host.submit(task(session_id="one")))
            assert isinstance(events[-1], End)
            pools |= {event.pool_id for event in events if isinstance(event, Started)}

    assert len(pools) == 1
