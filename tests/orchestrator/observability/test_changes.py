"""What changes for tasks: each change is one record of the log and one count."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from adapter_api import ConfigurationError, EngineProps, HealthReport, HealthState
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator
from orchestrator.observability.changes import CHANGES, Changes
from orchestrator.observability.metrics import OrchestratorMetrics
from tests.orchestrator.deploy.test_alerts import ill_plugins
from tests.orchestrator.observability.test_metrics import value
from tests.orchestrator.pooling import QUICK_HEALTH, adapter_of, orchestrator, settings, task
from tests.orchestrator.pools.test_monitor import eventually, plugin_host, set_state

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3062-021")]


class Refused(MockAdapter):
    """Answers, and lets nobody in."""

    async def _health(self, *, canary: bool) -> HealthReport:
        return HealthReport(state=self.settings.state, live=True, ready=False, detail=f"no {time.time()} token")


class Down(MockAdapter):
    """Cannot be reached, after a while for another reason."""

    probes: ClassVar[list[int]] = []

    async def _health(self, *, canary: bool) -> HealthReport:
        self.probes.append(1)
        count = len(self.probes)
        detail = f"refused, {count} attempts" if count < 4 else "certificate has expired"
        return HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False, detail=detail)


class Told:
    """The changes in the log, as `change` and text."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __call__(self, host: Orchestrator | OrchestratorMetrics) -> list[tuple[str, str]]:
        told = [
            (r.__dict__["change"], r.getMessage()) for r in self._caplog.records if r.name == "orchestrator.changes"
        ]
        metrics = host.metrics if isinstance(host, Orchestrator) else host
        counted = sum(
            sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == "worker_adapter_changes_total"
        )
        assert counted == len(told), "not counted as it was logged"
        return told

    def changes(self, host: Orchestrator | OrchestratorMetrics) -> list[str]:
        return [change for change, _ in self(host)]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.INFO)
    return Told(caplog)


def mock_of(host: Orchestrator) -> MockAdapter:
    adapter = adapter_of(host, "r0")
    assert isinstance(adapter, MockAdapter)
    return adapter


def change_settings(host: Orchestrator, **fields: Any) -> None:
    adapter = mock_of(host)
    adapter.settings = adapter.settings.model_copy(update=fields)


@pytest.mark.parametrize("state", ["degraded", "unreachable", "starting", "stopped"])
async def test_a_replica_that_is_refused_from_the_start_is_told_once_and_by_name(told: Told, state: str) -> None:
    async with orchestrator(
        {"state": state}, plugins=plugin_host(mock=f"{__name__}:Refused"), health=QUICK_HEALTH
    ) as host:
        replica = host._fleet.pools["default"].replicas["r0"]
        first = replica.report
        await eventually(lambda: replica.report is not first)
        status = host.pools[0].replicas[0]
        found = told(host)

    assert [change for change, _ in found] == ["replica_down"]
    assert found[0][1].startswith(f"replica default/r0 is {state} and takes no work: no ")
    assert status.state == state
    assert "token" in status.reason


async def test_a_replica_that_goes_and_comes_back(told: Told) -> None:
    async with orchestrator({}, health=QUICK_HEALTH) as host:
        for state in ("unreachable", "ready", "degraded"):
            set_state(host, "r0", state)
            await eventually(partial(lambda wanted: host.pools[0].replicas[0].state == wanted, state))
        found = told.changes(host)

    assert found == ["replica_up", "models_ready", "replica_down", "replica_up", "replica_state"]


async def test_models_go_with_their_replica_and_not_before_it(told: Told) -> None:
    """Silence is believed at the second probe: until then nobody has unloaded anything."""
    async with orchestrator({}, health={**QUICK_HEALTH, "fall": 2}) as host:
        for state in ("unreachable", "ready"):
            set_state(host, "r0", state)
            await eventually(partial(lambda wanted: host.pools[0].replicas[0].state == wanted, state))
        found = told.changes(host)

    assert found == ["replica_up", "models_ready", "replica_down", "replica_up"]


async def test_models_that_appear_and_vanish_are_named(told: Told) -> None:
    async with orchestrator({"models": ("a", "b")}, health=QUICK_HEALTH) as host:
        change_settings(host, models=("b", "c"))
        await eventually(lambda: len(told(host)) == 4)
        found = told(host)
        ready = host.collect_metrics().get_sample_value(
            "worker_adapter_models_ready",
            {"engine": "mock", "engine_version": "1.0", "pool_id": "default", "replica_id": "r0"},
        )

    assert found[1:] == [
        ("models_ready", "replica default/r0 has models a, b ready"),
        ("models_ready", "replica default/r0 has model c ready"),
        ("models_gone", "replica default/r0 no longer has ready: model a"),
    ]
    assert ready == 2


async def test_a_breaker_that_opens_half_opens_and_closes(told: Told) -> None:
    breaker, retry = {"failures": 1, "open_s": 0.001}, {"attempts": 1}
    fails_once = {"fail": "connection_lost", "fail_times": 1}
    async with orchestrator(fails_once, health=QUICK_HEALTH, breaker=breaker, retry=retry) as host:
        await collect(host.submit(task()))
        await collect(host.submit(task()))
        found = [each for each in told(host) if each[0].startswith("breaker")]

    assert [change for change, _ in found] == ["breaker_open", "breaker_half_open", "breaker_closed"]
    assert "after 1 failure, the last one connection_lost" in found[0][1]


async def test_a_model_that_a_pool_shall_serve_and_no_engine_has_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with orchestrator({}, models=["mock", "moc"], health=QUICK_HEALTH) as host:
        probed = host.pools[0].replicas[0].checked_at
        await eventually(lambda: host.pools[0].replicas[0].checked_at != probed)

    told = [each.getMessage() for each in caplog.records if "shall serve" in each.getMessage()]
    assert told == ["pool default shall serve model moc, which none of its replicas has"]


async def test_drains_and_what_takes_them_back(told: Told) -> None:
    async with orchestrator({}) as host:
        await host.drain("default", "r0")
        host.resume("default", "r0")
        await host.drain("default")
        host.resume("default")
        found = told(host)

    assert [change for change, _ in found][2:] == ["draining", "resumed", "draining", "resumed"]
    assert found[2][1] == "replica default/r0 gets nothing new: it is drained"


async def test_reloads_and_those_that_are_refused(told: Told) -> None:
    async with orchestrator({}) as host:
        before = value(host, "config_last_reload_successful")
        with pytest.raises(ConfigurationError):
            await host.revert("default")
        untouched = value(host, "config_last_reload_successful")  # there was nothing to go back to, nor to refuse
        with pytest.raises(ConfigurationError):
            await host.reload(settings({"nope": 1}))
        refused = value(host, "config_last_reload_successful")
        await host.reload(settings({}, {}))
        accepted = value(host, "config_last_reload_successful")
        found = told.changes(host)

    assert untouched == before
    assert (refused, accepted) == (0, 1)
    assert [change for change in found if change.startswith("reload")] == ["reload_refused", "reloaded"]


async def test_plugins_that_cannot_be_used(told: Told) -> None:
    async with Orchestrator(settings({}), plugins=ill_plugins()) as host:
        broken = value(host, "plugins", status="broken")
        found = told(host)

    assert broken == 1
    (text,) = [text for change, text in found if change == "plugin"]
    assert text.startswith("plugin 'broken' is not used, it is broken: ")


async def test_an_engine_that_is_another_version(told: Told) -> None:
    async with orchestrator({}, health=QUICK_HEALTH) as host:
        replica = host._fleet.pools["default"].replicas["r0"]
        props = replica.props
        assert isinstance(props, EngineProps)
        replica.props = msgspec.structs.replace(props, engine_version="2.0")
        await eventually(lambda: "version" in told.changes(host))
        assert ("version", "replica default/r0 runs 2.0, before 1.0") in told(host)


@pytest.mark.parametrize("left_days, said", [(-1, ["certificate_ended"]), (3, ["certificate_ends_soon"]), (300, [])])
async def test_certificates_that_end_and_are_renewed(told: Told, left_days: float, said: list[str]) -> None:
    metrics = OrchestratorMetrics()
    changes = Changes(metrics)
    ends = time.time() + left_days * 86400

    for _ in range(3):
        changes.look_at_own_certificate(ends)
    changes.look_at_own_certificate(ends + 400 * 86400)

    assert told.changes(metrics) == [*said, "certificate_renewed"]


async def test_a_reason_that_changes_is_told_and_a_figure_in_it_is_not(told: Told) -> None:
    async with orchestrator({}, plugins=plugin_host(mock=f"{__name__}:Down"), health=QUICK_HEALTH) as host:
        await eventually(lambda: len(Down.probes) > 6)
        found = told(host)

    assert [text.rpartition(": ")[2] for _, text in found] == ["refused, 1 attempts", "certificate has expired"]


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_change_is_expected_by_a_test_here(change: str) -> None:
    # By its words: the tests of a module may run in different processes.
    tests = Path(__file__).read_text(encoding="utf-8")

    assert f'"{change}"' in tests
