"""Draining and reloading while tasks run."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from adapter_api import AdapterClosed, ConfigurationError, End, NotReady, Started, TokenEvent, TokenStream
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator, OrchestratorSettings
from tests.orchestrator.pooling import QUICK_HEALTH, adapter_of, mock_host, orchestrator, settings, task
from tests.orchestrator.pools.test_monitor import eventually, plugin_host
from tests.orchestrator.work.test_dispatch import error_of

pytestmark = pytest.mark.anyio

SLOW = {"delay_s": 0.005}


async def running(host: Orchestrator, **fields: Any) -> TokenStream:
    stream = host.submit(task(max_tokens=20, **fields))
    await anext(stream)
    return stream


@pytest.mark.spec("ORCH-3055-034")
async def test_a_draining_replica_finishes_its_tasks_and_gets_no_new_ones() -> None:
    async with orchestrator(SLOW, SLOW) as host:
        stream = await running(host)
        report = await host.drain("default", "r0")
        elsewhere = (await collect(host.submit(task())))[0]
        rest = await collect(stream)
        done = await host.drain("default", "r0", timeout_s=5)

        assert (report.drained, report.in_flight) == (False, 1)
        assert isinstance(elsewhere, Started)
        assert elsewhere.replica_id == "r1"
        assert isinstance(rest[-1], End)
        assert rest[-1].finish_reason == "length"
        assert done.drained

        host.resume("default", "r0")
        back = (await collect(host.submit(task())))[0]
        assert isinstance(back, Started)
        assert back.replica_id == "r0"


@pytest.mark.spec("ORCH-3055-034")
async def test_a_draining_pool_refuses_newcomers_and_serves_those_who_wait() -> None:
    async with orchestrator({**SLOW, "slots": 1}) as host:
        stream, waiting = await running(host), host.submit(task())
        await host.drain("default")
        refused = error_of(await collect(host.submit(task())))
        await collect(stream)
        served = await collect(waiting)

        assert refused.code == "not_ready"
        assert "draining" in refused.message
        assert isinstance(served[-1], End)
        assert not host.ready

        host.resume("default")
        assert host.ready


@pytest.mark.spec("ORCH-3064-051")
async def test_taking_back_the_drain_of_a_pool_takes_back_those_of_its_replicas() -> None:
    async with orchestrator({}, {}) as host:
        await host.drain("default", "r0")
        await host.drain("default")
        host.resume("default")

        assert [replica.takes_work for replica in host.pools[0].replicas] == [True, True]


async def test_a_drain_waits_for_the_last_task() -> None:
    async with orchestrator(SLOW) as host:
        stream = await running(host)
        async with anyio.create_task_group() as readers:
            readers.start_soon(collect, stream)
            report = await host.drain("default", timeout_s=10)

    assert report.drained


@pytest.mark.parametrize("pool_id, replica_id", [("nope", None), ("default", "r9")])
async def test_draining_what_there_is_not_names_what_there_is(pool_id: str, replica_id: str | None) -> None:
    async with orchestrator({}) as host:
        with pytest.raises(KeyError, match="there are"):
            await host.drain(pool_id, replica_id)


@pytest.mark.spec("ORCH-3055-035")
async def test_a_reload_keeps_what_stayed_and_lets_tasks_of_what_went_finish() -> None:
    async with orchestrator(SLOW, SLOW) as host:
        kept, gone = await running(host), await running(host)
        before = adapter_of(host, "r0")
        report = await host.reload(settings(SLOW, {"reply": "changed"}))

        assert (report.kept, report.added, report.removed) == (("default/r0",), ("default/r1",), ("default/r1",))
        assert adapter_of(host, "r0") is before
        for stream in (kept, gone):
            rest = await collect(stream)
            assert isinstance(rest[-1], End)
            assert rest[-1].finish_reason == "length"


@pytest.mark.spec("ORCH-3055-035")
async def test_settings_that_cannot_be_change_nothing() -> None:
    async with orchestrator({}, {}) as host:
        before = host.settings

        with pytest.raises(ConfigurationError, match="wrong_option"):
            await host.reload(settings({}, {"wrong_option": 1}, {}))

        assert host.settings is before
        assert [replica.replica_id for replica in host.pools[0].replicas] == ["r0", "r1"]
        assert isinstance((await collect(host.submit(task())))[-1], End)


@pytest.mark.spec("ORCH-3055-035")
async def test_a_reload_that_would_leave_a_pool_without_work_changes_nothing() -> None:
    async with orchestrator({}) as host:
        before = adapter_of(host, "r0")

        with pytest.raises(NotReady, match="r0: it is unreachable"):
            await host.reload(settings({"state": "unreachable"}))

        assert adapter_of(host, "r0") is before
        assert host.ready


@pytest.mark.spec("ORCH-3055-035")
async def test_a_reload_can_be_taken_back() -> None:
    async with orchestrator({"reply": "old"}) as host:
        with pytest.raises(ConfigurationError, match="never reloaded"):
            await host.revert("default")
        await host.reload(settings({"reply": "new"}))
        new = await collect(host.submit(task()))
        await host.revert("default")
        old = await collect(host.submit(task()))

    assert [events[1].text for events in (new, old)] == ["new", "old"]  # type: ignore[union-attr]


async def test_pools_come_and_go_by_reload_and_replicas_that_went_are_closed() -> None:
    one = {"id": "one", "adapter": "mock", "replicas": [{"id": "a"}], "health": QUICK_HEALTH}
    two = {"id": "two", "adapter": "mock", "replicas": [{"id": "b", "options": {"models": ["other"]}}]}
    host = Orchestrator(OrchestratorSettings.parse({"pools": [one]}), plugins=mock_host())
    async with host:
        leaving = adapter_of(host, "a", "one")
        await host.reload(OrchestratorSettings.parse({"pools": [two]}))
        events = await collect(host.submit(task(model="other")))
        await eventually(lambda: leaving._lifecycle == "closed")

    assert isinstance(events[-1], End)
    assert [pool.pool_id for pool in host.pools] == ["two"]


@pytest.mark.spec("ORCH-3065-005")
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_task_that_waits_in_a_pool_that_a_reload_takes_away_goes_on_or_is_told_at_once(elsewhere: bool) -> None:
    ill = [{"id": "a", "options": {"state": "unreachable", "models": ["mock"]}}]
    wait = {"not_ready_wait_s": 3600, "timeout_s": 3600}
    one = {"id": "one", "adapter": "mock", "replicas": ill, "queue": wait}
    models = ["mock" if elsewhere else "other"]
    two = {"id": "two", "adapter": "mock", "replicas": [{"id": "b", "options": {"models": models}}]}
    async with Orchestrator(OrchestratorSettings.parse({"pools": [one]}), plugins=mock_host()) as host:
        waiting = host.submit(task())
        async with anyio.create_task_group() as group:
            found: list[TokenEvent] = []

            async def read() -> None:
                found.extend(await collect(waiting))

            group.start_soon(read)
            await eventually(lambda: host.pools[0].queue_depth == 1)
            await host.reload(OrchestratorSettings.parse({"pools": [two]}))
            await eventually(lambda: waiting.finished)

    if elsewhere:
        assert isinstance(found[-1], End)
        return
    error = error_of(found)
    assert error.code == "not_ready"
    assert "it was removed" in error.message


async def test_an_unknown_adapter_is_told_on_opening_with_those_there_are() -> None:
    host = Orchestrator(
        OrchestratorSettings.parse({"pools": [{"adapter": "acme", "replicas": [{"id": "r0"}]}]}), plugins=mock_host()
    )

    with pytest.raises(ConfigurationError, match="no adapter named 'acme' \\(there are: mock\\)"):
        async with host:
            pass


async def test_closing_does_not_wait_for_replicas_on_their_way_out() -> None:
    with anyio.fail_after(10):
        async with orchestrator({"hang_after": 0}) as host:
            stream = host.submit(task())
            await host.reload(settings({}))
        error = error_of(await collect(stream))

    assert error.code == "closed"


class NeverOpens(MockAdapter):
    async def _open(self) -> None:
        await anyio.sleep_forever()


async def test_closing_does_not_wait_for_an_adapter_that_never_opens() -> None:
    plugins = plugin_host(mute="tests.orchestrator.pools.test_fleet:NeverOpens", mock="adapter_api.testing:MockAdapter")
    replicas = [{"id": "r0", "adapter": "mute"}, {"id": "r1", "adapter": "mock"}]
    pool = {"replicas": replicas, "health": {"start_wait_s": 0.05}}
    with anyio.fail_after(10):
        async with Orchestrator(OrchestratorSettings.parse({"pools": [pool]}), plugins=plugins) as host:
            events = await collect(host.submit(task()))

    assert isinstance(events[-1], End)


async def test_a_reload_that_the_end_of_the_host_overtakes_says_so() -> None:
    plugins = plugin_host(mute="tests.orchestrator.pools.test_fleet:NeverOpens", mock="adapter_api.testing:MockAdapter")
    slow = {"adapter": "mute", "replicas": [{"id": "r1"}], "id": "new", "health": {"start_wait_s": 0.2}}
    old = {"adapter": "mock", "replicas": [{"id": "r0"}]}
    found: list[Exception] = []

    async def reload() -> None:
        try:
            await host.reload(OrchestratorSettings.parse({"pools": [old, slow]}))
        except AdapterClosed as exc:
            found.append(exc)

    async with anyio.create_task_group() as group:
        async with Orchestrator(OrchestratorSettings.parse({"pools": [old]}), plugins=plugins) as host:
            group.start_soon(reload)
            await anyio.wait_all_tasks_blocked()

    assert "closed" in str(found[0])
