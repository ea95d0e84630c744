"""What an engine does for others than this host, where it tells."""

from __future__ import annotations

import pytest

from adapter_api import Capacity, HealthReport, Started
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator, OrchestratorSettings
from tests.orchestrator.pooling import task
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio


class Crowded(MockAdapter):
    """Others keep half of its slots busy, and three of them wait."""

    told = Capacity(slots_total=8, slots_free=4, queued=3, in_flight=0)

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        return HealthReport(state=report.state, live=True, ready=True, models=report.models, capacity=self.told)


class Waiting(Crowded):
    """Tells only how many wait."""

    told = Capacity(queued=2)


def beside(other: str) -> Orchestrator:
    plugins = plugin_host(
        crowded="tests.orchestrator.pools.test_load:Crowded", waiting="tests.orchestrator.pools.test_load:Waiting",
        mock="adapter_api.testing:MockAdapter",
    )  # fmt: skip
    replicas = [{"id": "a", "adapter": other, "slots": 8}, {"id": "b", "adapter": "mock", "slots": 8}]
    settings = OrchestratorSettings.parse({"pools": [{"replicas": replicas}], "read_environment": False})
    return Orchestrator(settings, plugins=plugins)


@pytest.mark.spec("ORCH-3064-052")
@pytest.mark.parametrize("other, elsewhere", [("crowded", 7), ("waiting", 2), ("mock", 0)])
async def test_tasks_go_where_less_is_done_for_others_too(other: str, elsewhere: int) -> None:
    async with beside(other) as host:
        (started,) = [event for event in await collect(host.submit(task())) if isinstance(event, Started)]
        busy = host.pools[0].replicas[0]

    assert started.replica_id == ("b" if elsewhere else "a")
    assert busy.elsewhere == elsewhere


@pytest.mark.spec("ORCH-3064-052")
async def test_what_an_engine_tells_of_itself_is_in_the_pools_status() -> None:
    async with beside("crowded") as host:
        crowded, mock = host.pools[0].replicas

    assert (crowded.engine_slots_free, crowded.engine_queued) == (4, 3)
    assert (mock.engine_slots_free, mock.engine_queued) == (1024, 0)
