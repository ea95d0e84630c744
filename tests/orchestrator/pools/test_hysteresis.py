"""Probes that add up to a state."""

from __future__ import annotations

import pytest

from adapter_api import HealthReport, HealthState
from orchestrator.config.settings import HealthSettings
from orchestrator.pools.hysteresis import Hysteresis

GOOD = HealthReport(state=HealthState.READY, live=True, ready=True)
DEGRADED = HealthReport(state=HealthState.DEGRADED, live=True, ready=True, detail="a model is missing")
SILENT = HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False, detail="no answer")
DRAINING = HealthReport(state=HealthState.DRAINING, live=True, ready=False)


def states(*reports: HealthReport, fall: int = 2, rise: int = 2) -> list[str]:
    tested = Hysteresis(HealthSettings(fall=fall, rise=rise))
    found = []
    for report in reports:
        tested.observe(report)
        found.append(tested.state.value)
    return found


def test_the_first_good_probe_brings_a_replica_up() -> None:
    assert states(SILENT, GOOD) == ["unreachable", "ready"]


def test_one_silent_probe_is_a_hiccup_and_two_are_not() -> None:
    assert states(GOOD, SILENT, GOOD, SILENT, SILENT) == ["ready", "ready", "ready", "ready", "unreachable"]


@pytest.mark.spec("ORCH-3057-024")
def test_it_comes_back_after_enough_good_probes_in_a_row() -> None:
    assert states(GOOD, SILENT, SILENT, GOOD, SILENT, GOOD, GOOD)[2:] == [
        "unreachable", "unreachable", "unreachable", "unreachable", "ready",
    ]  # fmt: skip


def test_what_the_engine_says_of_itself_is_believed_at_once() -> None:
    assert states(GOOD, DRAINING) == ["ready", "draining"]


def test_degraded_takes_work() -> None:
    tested = Hysteresis(HealthSettings())
    tested.observe(GOOD)

    assert tested.observe(DEGRADED)
    assert tested.takes_work
    assert tested.detail == "a model is missing"


def test_a_refusal_keeps_its_name_and_takes_no_work() -> None:
    tested = Hysteresis(HealthSettings())

    tested.observe(HealthReport(state=HealthState.DEGRADED, live=True, ready=False, detail="no token"))

    assert (tested.state, tested.takes_work, tested.detail) == (HealthState.DEGRADED, False, "no token")


def test_ready_state_without_ready_is_starting() -> None:
    assert states(HealthReport(state=HealthState.READY, live=True, ready=False)) == ["starting"]
