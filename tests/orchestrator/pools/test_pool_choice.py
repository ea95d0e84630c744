"""Which pool a task falls to, and what another pool knows of a session: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import End, Error, InferRequest, Metrics, Sequence, Started, TokenEvent
from adapter_api.testing import collect
from orchestrator import Orchestrator, OrchestratorSettings
from tests.orchestrator.pooling import QUICK_HEALTH, mock_host, orchestrator, settings, task
from tests.orchestrator.pools.test_monitor import eventually, set_state

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


@pytest.mark.spec("ORCH-3055-031")
async def test_a_session_stays_where_it_was_served_last_when_the_weights_would_send_it_back() -> None:
    async with two_pools({"weight": 100}, {"weight": 1}) as host:
        first = await collect(host.submit(task(session_id="s")))
        await host.drain("blue")
        moved = await collect(host.submit(task(session_id="s")))
        host.resume("blue")
        after = await collect(host.submit(task(session_id="s")))

    assert [pool_of(events) for events in (first, moved, after)] == ["blue", "green", "green"]
    assert warmth(after) == [1]


@pytest.mark.spec("ORCH-3061-022")
async def test_a_sequence_stays_in_its_pool_though_the_pool_lost_its_weight() -> None:
    async with two_pools({}, {"weight": 0}) as host:
        await host.infer(InferRequest(model="mock", inputs=(), sequence=Sequence(id=7, start=True)))
        blue, green = host.settings.pools
        pools = (blue.model_copy(update={"weight": 0}), green.model_copy(update={"weight": 100}))
        await host.reload(host.settings.model_copy(update={"pools": pools}))
        await host.infer(InferRequest(model="mock", inputs=(), sequence=Sequence(id=7), timeout_s=5))
        dispatched = [pool.replicas[0].dispatched for pool in host.pools]

    assert dispatched == [2, 0]


@pytest.mark.spec("ORCH-3055-032")
async def test_a_session_that_somebody_else_has_under_the_same_name_is_cold() -> None:
    async with two_pools({}, {}) as host:
        for owner in ("team-a", "team-b"):
            events = await collect(host.accept(task(session_id="s"), owner=owner))

            assert warmth(list(events)) == [0]


@pytest.mark.spec("ORCH-3055-032")
@pytest.mark.parametrize("what", ["restarted", "replaced"])
async def test_a_session_whose_engine_may_have_been_started_anew_is_cold(what: str) -> None:
    async with orchestrator({}, health=QUICK_HEALTH) as host:
        first = await collect(host.submit(task(session_id="s")))
        if what == "restarted":
            set_state(host, "r0", "unreachable")
            await eventually(lambda: not host.ready)
            set_state(host, "r0", "ready")
            await eventually(lambda: host.ready)
        else:
            await host.reload(settings({"reply": "another engine"}, health=QUICK_HEALTH))
        after = await collect(host.submit(task(session_id="s")))
        again = await collect(host.submit(task(session_id="s")))

    assert [warmth(list(events)) for events in (first, after, again)] == [[0], [0], [1]]


def pool_of(events: list[TokenEvent]) -> str | None:
    return next(event.pool_id for event in events if isinstance(event, Started))


def failing(code: str = "connect_failed") -> dict[str, Any]:
    return {"replicas": [{"id": "r0", "options": {"fail": code}}]}


@pytest.mark.spec("ORCH-3065-005")
@pytest.mark.parametrize("code, ends_at", [
    ("connect_failed", "green"), ("overloaded", "green"), ("not_ready", "green"), ("invalid_request", None),
])  # fmt: skip
async def test_what_its_pool_cannot_run_goes_to_another_and_what_nobody_can_does_not(
    code: str, ends_at: str | None
) -> None:
    async with two_pools({**failing(code), "weight": 1000}, {"weight": 1}) as host:
        events = await collect(host.submit(task(job_id="j")))

    assert (pool_of(list(events)) if isinstance(events[-1], End) else None) == ends_at


@pytest.mark.spec("ORCH-3065-005")
@pytest.mark.parametrize("green", [
    {"weight": 0}, {"shadow_of": "blue"}, {"models": ["other"]},
    {"replicas": [{"id": "r0", "slots": 1}], "queue": {"limit": 0}},
])  # fmt: skip
async def test_a_task_does_not_go_to_a_pool_without_weight_model_or_room_nor_to_a_shadow(green: dict[str, Any]) -> None:
    blue = {**failing(), "weight": 1000, "retry": {"attempts": 2, "backoff_s": 0.0}}
    async with two_pools(blue, green) as host:
        if "queue" in green:
            taken = host.accept(task(job_id="holds-the-slot"), pool_id="green")
        events = await collect(host.submit(task(job_id="j")))
        if "queue" in green:
            await taken.aclose()

    assert isinstance(events[-1], Error)
    assert events[-1].code == "connect_failed"


@pytest.mark.spec("ORCH-3065-005")
async def test_a_task_that_was_sent_to_a_pool_by_name_stays_there() -> None:
    blue = {**failing(), "weight": 1000, "retry": {"attempts": 2, "backoff_s": 0.0}}
    async with two_pools(blue, {"weight": 1}) as host:
        events = await collect(host.accept(task(), pool_id="blue"))

    assert isinstance(events[-1], Error)
