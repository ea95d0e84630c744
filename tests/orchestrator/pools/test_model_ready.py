"""A model that replicas list and have not ready: who waits for it, for how long, and where its tasks go meanwhile."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from adapter_api import End, Error, HealthReport, InferRequest, ModelHealth, NotReady, Started, TokenEvent
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.pools.demand import Demand
from tests.orchestrator.pooling import QUICK_HEALTH, adapter_of, orchestrator, task
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

LONG = {"timeout_s": 3600, "not_ready_wait_s": 3600}
SHORT = {"timeout_s": 3600, "not_ready_wait_s": 0.05}


class Loading(MockAdapter):
    """A replica that is ready while its model `late` is not, until somebody says so."""

    late_is_ready = False

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        models = tuple(
            m
            if m.name != "late" or self.late_is_ready
            else ModelHealth(name="late", ready=False, version="1", state="LOADING", reason="it is large")
            for m in report.models
        )
        return msgspec.structs.replace(report, models=models)


def loading(*replicas: dict[str, Any], **pool: Any) -> Orchestrator:
    options = {"models": ["late", "mock"]}
    plugins = plugin_host(mock="tests.orchestrator.pools.test_model_ready:Loading")
    return orchestrator(*[{**options, **replica} for replica in replicas], plugins=plugins, health=QUICK_HEALTH, **pool)


def late_of(host: Orchestrator, replica_id: str = "r0") -> Loading:
    adapter = adapter_of(host, replica_id)
    assert isinstance(adapter, Loading)
    return adapter


def last(events: list[TokenEvent]) -> Error | End:
    assert isinstance(events[-1], Error | End)
    return events[-1]


@pytest.mark.spec("ORCH-3055-047")
async def test_a_task_for_a_model_that_is_ready_nowhere_ends_in_not_ready_and_not_with_the_queues_time() -> None:
    async with loading({}, {}, queue=SHORT) as host:
        with anyio.fail_after(10):
            other = last(await collect(host.submit(task())))
            late = last(await collect(host.submit(task(model="late"))))
            with pytest.raises(NotReady, match="'late' is not ready on any replica"):
                await host.infer(InferRequest(model="late", inputs=()))

    assert isinstance(other, End)
    assert isinstance(late, Error)
    assert (late.code, late.retryable) == ("not_ready", True)
    for said in ("r0: version 1 is not ready (LOADING: it is large)", "r1: ", "load it, or try again later"):
        assert said in late.message


@pytest.mark.spec("ORCH-3055-047")
async def test_a_task_waits_for_its_model_as_long_as_for_a_replica() -> None:
    async with loading({}, queue={**SHORT, "not_ready_wait_s": 10}) as host:
        stream = host.submit(task(model="late"))
        await eventually(lambda: host.pools[0].queue_depth == 1)
        late_of(host).late_is_ready = True
        events = await collect(stream)

    assert isinstance(last(events), End)


@pytest.mark.spec("ORCH-3055-047")
async def test_a_model_that_goes_while_its_tasks_wait_for_a_slot_shortens_their_wait() -> None:
    async with loading({"slots": 1, "hang_after": 1}, queue=SHORT) as host:
        late_of(host).late_is_ready = True
        await eventually(lambda: host._fleet.pools["default"].is_ready_for(Demand(model="late")))
        running = host.submit(task(model="late"))
        waiting = host.submit(task(model="late"))
        async with anyio.create_task_group() as group:
            found: list[TokenEvent] = []

            async def read() -> None:
                found.extend(await collect(waiting))

            group.start_soon(collect, running)
            await eventually(lambda: host.pools[0].in_flight == 1)
            group.start_soon(read)
            await anyio.sleep(4 * SHORT["not_ready_wait_s"])  # it waits for a slot: the short wait does not count
            assert not found
            late_of(host).late_is_ready = False
            await eventually(lambda: bool(found))
            await running.aclose()

    error = last(found)
    assert isinstance(error, Error)
    assert error.code == "not_ready"


@pytest.mark.spec("ORCH-3055-047")
async def test_tasks_of_a_replica_that_alone_has_their_model_do_not_wait_behind_others_that_are_ready() -> None:
    """As when its breaker is open, or it is drained: that others take work does not help these tasks."""
    async with loading({}, {"models": ["mock", "only"]}, queue=SHORT) as host:
        await host.drain("default", "r1")
        with anyio.fail_after(10):
            error = last(await collect(host.submit(task(model="only"))))

    assert isinstance(error, Error)
    assert error.code == "not_ready"
    for said in ("r0: it does not have the model", "r1: it is draining"):
        assert said in error.message


@pytest.mark.spec("ORCH-3055-047")
async def test_a_pool_where_the_model_is_ready_is_chosen_before_one_where_it_is_not() -> None:
    plugins = plugin_host(
        loading="tests.orchestrator.pools.test_model_ready:Loading", mock="adapter_api.testing:MockAdapter"
    )
    options = {"models": ["late", "mock"]}
    pools = [
        {"id": adapter, "adapter": adapter, "replicas": [{"id": "r0", "options": options}], "queue": LONG}
        for adapter in ("loading", "mock")
    ]
    host = Orchestrator(OrchestratorSettings.parse({"pools": pools, "read_environment": False}), plugins=plugins)
    with anyio.fail_after(10):
        async with host:
            for number in range(20):
                events = await collect(host.submit(task(model="late", job_id=f"j{number}")))
                assert [event.pool_id for event in events if isinstance(event, Started)] == ["mock"]
