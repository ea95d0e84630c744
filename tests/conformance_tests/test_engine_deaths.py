"""An engine that dies by itself: nothing is judged on it, nothing is lost by it, and nothing hides behind it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncGenerator
from xml.etree import ElementTree

import msgspec
import pytest

from adapter_api import TaskRequest, TokenEvent
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.command_line import describe
from conformance_tests.execution import MOST_DEATHS, Session
from conformance_tests.harness import Harness
from conformance_tests.junit import render_junit
from conformance_tests.markdown import render, verdict_line
from conformance_tests.outcome import Outcome, Status
from conformance_tests.reference import ReferenceAdapter, ReferenceHarness
from conformance_tests.reference.engine import Mode
from conformance_tests.report import Report, encode_report, make_report
from triton_adapter.conformance import TritonHarness
from triton_adapter.embedded import EmbeddedTriton

no_spec = "it is about what runs the checks of all requirements"

CHECKS = ("ORCH-3059-001", "ORCH-3059-002", "ORCH-3059-003")


def outcomes_on(harness: Harness, ids: tuple[str, ...] = CHECKS) -> list[Outcome]:
    suite, requirements = load_suite(), {r.id: r for r in load().requirements}
    return Session(harness).run_all([suite[id] for id in ids], requirements, lambda outcome: None)


def report_on(harness: Harness, ids: tuple[str, ...] = CHECKS) -> Report:
    return make_report(
        outcomes_on(harness, ids), catalog=load(), under=describe(Session(harness)), deviations={},
        started_at=time.time(), duration_s=1.0, seed=0, strict=False,
    )  # fmt: skip


class Dying(ReferenceHarness):
    """Its engine is dead before some of the attempts begin; a reset does not bring it back."""

    def __init__(self, *attempts: int, revivable: bool = True, adapter: type[ReferenceAdapter] = ReferenceAdapter):
        super().__init__(adapter_class=adapter)
        self.dies_at = attempts
        self.revivable = revivable
        self.resets = self.revivals = 0
        self.dead = False

    async def reset(self) -> None:
        await super().reset()
        self.resets += 1
        self.dead = self.dead or self.resets in self.dies_at
        if self.dead:
            self.engine.set_mode(Mode.DOWN)

    async def engine_died(self) -> str | None:
        return "its process ended with status 139" if self.dead or self.engine.mode is Mode.DOWN else None

    async def revive_engine(self) -> None:
        if not self.revivable:
            raise OSError("no room")
        self.revivals += 1
        self.dead = False
        self.engine.set_mode(Mode.UP)


class Lethal(ReferenceAdapter):
    """An adapter whose tasks kill the engine."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        async for event in super()._submit(task):
            yield event
        self.server.set_mode(Mode.DOWN)


# The first attempt is the question for the adapter's properties.
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_a_check_whose_engine_died_is_run_once_more_on_a_new_one(attempt: int) -> None:
    harness = Dying(attempt)

    outcomes = outcomes_on(harness)

    assert [outcome.status for outcome in outcomes] == [Status.PASSED] * len(CHECKS)
    (death,) = [death for outcome in outcomes for death in outcome.engine_deaths]
    assert death.requirement == CHECKS[max(0, attempt - 2)]
    assert death.revived
    assert harness.revivals == 1


def test_a_death_is_told_in_the_verdict_and_in_every_form_of_the_report() -> None:
    report = report_on(Dying(2))

    assert verdict_line(report).endswith("the engine died once and was started anew)")
    assert "- in the check of ORCH-3059-001: its process ended with status 139" in render(report)
    assert msgspec.json.decode(encode_report(report))["engine_deaths"] == [
        {"requirement": "ORCH-3059-001", "reason": "its process ended with status 139", "revived": True}
    ]
    told = ElementTree.fromstring(render_junit(report)).findtext("testsuite/system-out")
    assert told is not None
    assert "the engine died once and was started anew\nORCH-3059-001: its process ended" in told


def test_nothing_is_told_of_an_engine_that_lives() -> None:
    report = report_on(Dying())

    assert report.engine_deaths == ()
    assert "died" not in render(report)
    assert b"system-out" not in render_junit(report)


def test_a_second_death_in_one_check_blocks_it_and_the_verdict_is_incomplete() -> None:
    report = report_on(Dying(2, 3))

    results = {result.id: result for result in report.results}
    assert results[CHECKS[0]].status is Status.BLOCKED
    assert results[CHECKS[0]].reason.startswith("the engine dies of it: ")
    assert [results[id].status for id in CHECKS[1:]] == [Status.PASSED] * 2
    assert report.verdict == "incomplete"
    assert "the engine died twice and was started anew each time" in verdict_line(report)


def test_an_adapter_that_kills_its_engine_each_time_hides_nothing() -> None:
    outcomes = outcomes_on(Dying(adapter=Lethal))

    assert [outcome.status for outcome in outcomes] == [Status.BLOCKED] * len(CHECKS)
    assert all("the engine dies of it" in outcome.reason for outcome in outcomes)


def test_an_engine_that_goes_on_dying_is_given_up() -> None:
    ids = tuple(id for id in load_suite() if id.startswith("ORCH-3059"))[: MOST_DEATHS + 2]
    harness = Dying(adapter=Lethal)

    outcomes = outcomes_on(harness, ids)

    assert outcomes[-1].status is Status.BLOCKED
    assert "is given up" in outcomes[-1].reason
    assert harness.revivals == MOST_DEATHS


def test_without_a_revival_every_check_after_a_death_is_blocked_and_says_where_it_was() -> None:
    report = report_on(Dying(3, revivable=False))

    results = {result.id: result for result in report.results}
    assert [results[id].status for id in CHECKS] == [Status.PASSED, Status.BLOCKED, Status.BLOCKED]
    assert "died in the check of ORCH-3059-002" in results[CHECKS[2]].reason
    assert "OSError: no room" in results[CHECKS[2]].reason
    assert "the engine died once and was not started anew" in verdict_line(report)


class Killed(TritonHarness):
    """A real server that is killed, as a crash would, when it was given so many tasks."""

    def __init__(self, server: EmbeddedTriton, at: int) -> None:
        super().__init__(server=server)
        self.server, self.at = server, at

    def task(self, **changes: object) -> TaskRequest:
        self.at -= 1
        if self.at == 0:
            os.kill(self.server.pid, signal.SIGKILL)
        return super().task(**changes)


@pytest.mark.live
@pytest.mark.long
def test_a_triton_that_is_killed_in_the_middle_of_the_suite_costs_no_verdict() -> None:
    with EmbeddedTriton() as server:
        before = server.pid
        outcomes = outcomes_on(Killed(server, at=2), (*CHECKS, "ORCH-3059-010", "ORCH-3060-001"))

        assert server.pid != before
        assert server.is_running
    assert {outcome.status for outcome in outcomes} == {Status.PASSED}
    (death,) = [death for outcome in outcomes for death in outcome.engine_deaths]
    assert death.reason == "Triton's process ended by itself, with status 137"


@pytest.mark.live
@pytest.mark.long
def test_a_triton_that_hangs_for_good_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_adapter.conformance._ANSWERS_S", 1.0)

    class Hung(Killed):
        async def reset(self) -> None:
            await super().reset()
            self.at -= 1
            if self.at == 0:
                self.server.pause()

    with EmbeddedTriton() as server:
        harness = Hung(server, at=2)
        outcomes = Session(harness, timeout_s=5.0).run_all(
            [load_suite()[CHECKS[0]]], {}, lambda outcome: None
        )  # fmt: skip
    assert outcomes[0].status is Status.PASSED
    assert "answers nothing" in outcomes[0].engine_deaths[0].reason
