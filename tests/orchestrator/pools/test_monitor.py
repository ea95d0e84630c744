"""Replicas that are watched: taken out, taken back, and never in each other's way."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from adapter_api import (
    AdapterPlugin,
    HealthReport,
    HealthState,
    InferRequest,
    InferResponse,
    PluginHost,
    TaskRequest,
    hookimpl,
)
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator
from orchestrator.pools.replica import Replica
from tests.orchestrator.pooling import QUICK_HEALTH, adapter_of, orchestrator, task
from tests.orchestrator.work.test_dispatch import error_of

pytestmark = pytest.mark.anyio


async def eventually(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Return once the condition holds. For what nothing tells of: state of another process, or deep inside."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.002)


def set_state(host: Orchestrator, replica_id: str, state: str, pool_id: str = "default") -> None:
    adapter = adapter_of(host, replica_id, pool_id)
    assert isinstance(adapter, MockAdapter)
    adapter.settings = adapter.settings.model_copy(update={"state": HealthState(state)})


def takes_work(host: Orchestrator, replica_id: str) -> bool:
    return next(r.takes_work for r in host.pools[0].replicas if r.replica_id == replica_id)


@pytest.mark.spec("ORCH-3057-024", "ORCH-3057-025", "ORCH-3055-010")
async def test_a_replica_that_goes_and_comes_back_is_taken_out_and_in_with_one_hook_call_each() -> None:
    changes: list[tuple[str, str]] = []

    class Observer:
        @hookimpl
        def worker_adapter_register(self) -> AdapterPlugin:
            return AdapterPlugin(
                name="mock",
                adapter="adapter_api.testing:MockAdapter",
                settings="adapter_api.testing:MockSettings",
                api_version="1.0",
            )

        @hookimpl
        def worker_adapter_health_changed(self, pool_id: str, replica_id: str, report: HealthReport) -> None:
            changes.append((replica_id, report.state.value))

    plugins = PluginHost()
    plugins.add("observer", Observer())
    async with orchestrator({}, plugins=plugins, health=QUICK_HEALTH) as host:
        set_state(host, "r0", "unreachable")
        await eventually(lambda: not takes_work(host, "r0"))
        set_state(host, "r0", "ready")
        await eventually(lambda: takes_work(host, "r0"))
        events = await collect(host.submit(task()))

    assert events[-1].finish_reason == "length"  # type: ignore[union-attr]
    assert changes == [("r0", "ready"), ("r0", "unreachable"), ("r0", "ready")]


class NeverAnswers(MockAdapter):
    async def _health(self, *, canary: bool) -> HealthReport:
        await anyio.sleep_forever()
        raise AssertionError("slept for ever")


async def test_models_of_a_pool_that_only_a_replica_that_is_down_has_are_told_as_not_ready() -> None:
    async with orchestrator({"models": ("a", "b")}, {"models": ("b",)}, health=QUICK_HEALTH) as host:
        both = host.pools[0]
        set_state(host, "r0", "unreachable")
        await eventually(lambda: not takes_work(host, "r0"))
        one = host.pools[0]

    assert (both.models, both.models_not_ready) == (("a", "b"), ())
    assert (one.ready, one.models, one.models_not_ready) == (True, ("a", "b"), ("a",))


def plugin_host(**adapters: str) -> PluginHost:
    """A plugin host with adapters of these classes, by name."""

    class Adapters:
        @hookimpl
        def worker_adapter_register(self) -> list[AdapterPlugin]:
            return [
                AdapterPlugin(name=name, adapter=target, settings="adapter_api.testing:MockSettings", api_version="1.0")
                for name, target in adapters.items()
            ]

    plugins = PluginHost()
    plugins.add("adapters", Adapters())
    return plugins


def mixed(*adapters: str, plugins: PluginHost, **pool: Any) -> Orchestrator:
    from orchestrator import OrchestratorSettings

    replicas = [{"id": f"r{number}", "adapter": adapter} for number, adapter in enumerate(adapters)]
    return Orchestrator(OrchestratorSettings.parse({"pools": [{"replicas": replicas, **pool}]}), plugins=plugins)


@pytest.mark.spec("ORCH-3057-023")
async def test_a_replica_that_never_answers_delays_neither_opening_nor_the_others() -> None:
    plugins = plugin_host(
        mock="adapter_api.testing:MockAdapter", mute="tests.orchestrator.pools.test_monitor:NeverAnswers"
    )
    health = {"interval_s": 0.01, "start_wait_s": 0.05}
    host = mixed("mute", "mock", plugins=plugins, health=health)
    async with host:
        probed = host.pools[0].replicas[1].checked_at
        await eventually(lambda: host.pools[0].replicas[1].checked_at != probed)
        events = await collect(host.submit(task()))

    assert events[0].replica_id == "r1"  # type: ignore[union-attr]


class BreaksOnOpen(MockAdapter):
    openings = 0

    async def _open(self) -> None:
        BreaksOnOpen.openings += 1
        if BreaksOnOpen.openings < 3:
            raise OSError("secret detail")


async def test_an_adapter_that_breaks_while_it_is_opened_is_made_anew_until_it_opens() -> None:
    BreaksOnOpen.openings = 0
    plugins = plugin_host(fragile="tests.orchestrator.pools.test_monitor:BreaksOnOpen")
    async with mixed("fragile", plugins=plugins, health=QUICK_HEALTH) as host:
        status = host.pools[0].replicas[0]
        assert (status.state, status.takes_work) == (HealthState.UNREACHABLE, False)
        assert "OSError" in status.reason
        assert "secret detail" not in status.reason

        await eventually(lambda: takes_work(host, "r0"))


@pytest.mark.spec("ORCH-3057-026")
async def test_a_replica_that_fails_its_tasks_is_left_alone_and_the_others_serve() -> None:
    breaker = {"failures": 2, "open_s": 60}
    async with orchestrator({"fail": "connection_lost"}, {}, breaker=breaker) as host:
        for _ in range(4):
            await collect(host.submit(task()))
        failing = adapter_of(host, "r0")
        status = host.pools[0].replicas[0]

    assert isinstance(failing, MockAdapter)
    assert len(failing.submitted) == 2
    assert (status.breaker, status.takes_work) == ("open", False)
    assert "2 failures in a row, the last one connection_lost" in status.reason


@pytest.mark.parametrize("how", ["dropped unread", "closed unread", "an inference that is cancelled"])
async def test_a_trial_that_ends_without_a_verdict_makes_room_for_the_next(how: str) -> None:
    failing_once = {"fail": "connection_lost", "fail_times": 1, "hang_after": 0}
    async with orchestrator(failing_once, breaker={"failures": 1, "open_s": 0.001}, retry={"attempts": 1}) as host:
        replica = host._fleet.pools["default"].replicas["r0"]
        assert error_of(await collect(host.submit(task()))).code == "connection_lost"
        await eventually(lambda: replica.trust.breaker.state == "half_open")

        if how == "an inference that is cancelled":
            async with Hanging() as hanging:
                replica.adapter = hanging
                with anyio.move_on_after(0.02):
                    await host.infer(InferRequest(model="mock", inputs=()))
        else:
            stream = host.submit(task())
            assert not replica.trust.breaker.allows, "this is the trial"
            if how == "closed unread":
                await stream.aclose()
            del stream
            gc.collect()

        await eventually(lambda: replica.trust.breaker.allows)


class Hanging(MockAdapter):
    async def _infer(self, request: InferRequest) -> InferResponse:
        await anyio.sleep_forever()
        raise AssertionError("unreachable")


@pytest.mark.spec("ORCH-3057-027")
async def test_tasks_at_fault_never_open_a_breaker() -> None:
    async with orchestrator({"fail": "invalid_request"}, breaker={"failures": 1}) as host:
        for _ in range(3):
            assert error_of(await collect(host.submit(task()))).code == "invalid_request"

        assert host.pools[0].replicas[0].breaker == "closed"


class OldEngine(MockAdapter):
    async def _props(self) -> Any:
        return msgspec.structs.replace(await super()._props(), engine_version="0.9")


@pytest.mark.spec("ORCH-3055-029")
@pytest.mark.parametrize("pin, served_by", [("0.9", "r1"), ("1.0", "r0"), ("first", "r0")])
async def test_a_pinned_pool_sends_work_to_replicas_of_that_engine_version_only(pin: str, served_by: str) -> None:
    plugins = plugin_host(mock="adapter_api.testing:MockAdapter", old="tests.orchestrator.pools.test_monitor:OldEngine")
    async with mixed("mock", "old", plugins=plugins, engine_version=pin) as host:
        streams = [host.submit(task()) for _ in range(3)]
        placements = {(await collect(stream))[0].replica_id for stream in streams}  # type: ignore[union-attr]
        reasons = [replica.reason for replica in host.pools[0].replicas]

    assert placements == {served_by}
    assert sum("pinned" in reason for reason in reasons) == 1


@pytest.mark.spec("ORCH-3055-029")
async def test_a_pin_to_the_first_version_ends_when_no_replica_has_it_any_more() -> None:
    plugins = plugin_host(mock="adapter_api.testing:MockAdapter")
    async with mixed("mock", "mock", plugins=plugins, engine_version="first") as host:
        replicas = list(host._fleet.pools["default"].replicas.values())
        assert host.pools[0].engine_version == "1.0"

        upgrade(replicas[0])
        assert [replica.takes_work for replica in host.pools[0].replicas] == [False, True], "versions were mixed"
        upgrade(replicas[1])

        assert host.pools[0].engine_version == "2.0"
        assert [replica.takes_work for replica in host.pools[0].replicas] == [True, True]


def upgrade(replica: Replica) -> None:
    assert replica.props is not None
    replica.props = msgspec.structs.replace(replica.props, engine_version="2.0")


async def test_a_task_that_waits_for_a_ready_replica_runs_once_there_is_one() -> None:
    async with orchestrator({"state": "starting"}, health=QUICK_HEALTH, queue={"not_ready_wait_s": 10}) as host:
        async with anyio.create_task_group() as readers:
            found: list[Any] = []

            async def read() -> None:
                found.extend(await collect(host.submit(TaskRequest(model="mock", prompt="p", max_tokens=1))))

            readers.start_soon(read)
            await eventually(lambda: host.pools[0].queue_depth == 1)
            set_state(host, "r0", "ready")

    assert found[-1].finish_reason == "length"
