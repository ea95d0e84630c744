"""The proof that every check can fail, and fails on its own requirement only."""

from __future__ import annotations

import pytest

from adapter_api import Capability
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.mutants.breaking import Mutant, found_broken, mutants, trial
from conformance_tests.outcome import Status

no_spec = "it is about the checks of all requirements"


@pytest.mark.parametrize("mutant", mutants(), ids=str)
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
