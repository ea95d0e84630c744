"""The proof that every check can fail, and fails on its own requirement only."""

from __future__ import annotations

import subprocess
import sys
import time

import anyio
import pytest

from adapter_api import Capability
from conformance_tests.catalog import load
from conformance_tests.checks import Check, load_suite
from conformance_tests.execution import Session
from conformance_tests.mutants.breaking import HurryingHarness, Mutant, found_broken, mutants, trial
from conformance_tests.outcome import Status
from conformance_tests.subject import Subject

no_spec = "it is about the checks of all requirements"


def chapter(mutant: Mutant) -> str:
    return mutant.requirement.rpartition("-")[0]


@pytest.mark.parametrize("mutant", mutants(), ids=str)
def test_a_mutant_fails_its_own_requirement(mutant: Mutant) -> None:
    found = found_broken(trial(mutant, [mutant.requirement]))

    assert found.keys() == {mutant.requirement}, found


# Every mutant before the whole suite takes a minute; the first of each chapter shows that it works at all.
FIRST = {chapter(mutant): mutant for mutant in reversed(mutants())}


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=str(mutant), marks=[] if mutant is FIRST[chapter(mutant)] else [pytest.mark.long])
        for mutant in mutants()
    ],
)
def test_a_mutant_fails_exactly_its_own_requirement(mutant: Mutant) -> None:
    found = found_broken(trial(mutant))

    assert found.keys() == {mutant.requirement}, found


def test_every_requirement_of_the_suite_has_a_mutant() -> None:
    of_suite = {requirement.id for requirement in load().requirements if requirement.verify == "conformance"}

    assert {mutant.requirement for mutant in mutants()} == of_suite


def test_every_requirement_of_the_suite_has_a_check_and_every_check_a_requirement() -> None:
    of_suite = {requirement.id for requirement in load().requirements if requirement.verify == "conformance"}

    assert load_suite().keys() == of_suite


@pytest.mark.parametrize("without", sorted({tuple(sorted(mutant.without)) for mutant in mutants()}), ids=",".join)
def test_an_adapter_that_declares_less_is_conformant_too(without: tuple[Capability, ...]) -> None:
    honest = Mutant("none", "honest", without=frozenset(without))

    outcomes = trial(honest)

    accepted = (Status.PASSED, Status.NOT_APPLICABLE)
    assert [outcome for outcome in outcomes if outcome.status not in accepted] == []


def test_the_mutants_can_be_tried_from_the_command_line_without_what_only_tests_need() -> None:
    program = (
        "import sys; sys.modules |= dict.fromkeys(('trio', 'pytest'));"
        "from conformance_tests.mutants.__main__ import main; sys.exit(main(['ORCH-3059-003']))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ok    ORCH-3059-003-CountsFromOne: token number 0 of the first task has the index 1" in ran.stdout
    assert "3 mutants, 0 not as they should be; no mutant for: none" in ran.stdout


def test_a_check_that_hangs_takes_no_time_in_a_trial() -> None:
    async def hangs(subject: Subject) -> None:
        await anyio.sleep(3600)

    began = time.monotonic()
    outcome = Session(HurryingHarness(), timeout_s=3000).run(Check("none", hangs), None)

    assert (outcome.status, outcome.reason) == (Status.FAILED, "the check was not done within 3000 s")
    assert time.monotonic() - began < 60
