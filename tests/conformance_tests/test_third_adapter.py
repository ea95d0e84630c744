"""Bugs of new authors, planted in an adapter that the suite was not made with: each is found by its own requirement."""

from __future__ import annotations

import pytest

from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.outcome import Status
from tests.conformance_tests.lyre.bugs import BUGS, Bug
from tests.conformance_tests.lyre.harness import LyreHarness

no_spec = "it is about the checks of several requirements"
pytestmark = pytest.mark.long  # on the reference each has a mutant, which is quick


def test_the_adapter_without_a_bug_passes() -> None:
    outcomes = Session(LyreHarness()).run_all(
        load_suite().values(), {one.id: one for one in load().requirements}, lambda outcome: None
    )

    odd = [one for one in outcomes if one.status not in (Status.PASSED, Status.SKIPPED, Status.NOT_APPLICABLE)]
    assert odd == []
    assert sum(one.status is Status.PASSED for one in outcomes) > 130


@pytest.mark.parametrize("planted", BUGS, ids=lambda planted: planted.name)
def test_a_bug_of_a_new_author_is_found(planted: Bug) -> None:
    requirements = {one.id: one for one in load().requirements}

    (outcome,) = Session(LyreHarness(*planted.changes)).run_all(
        [load_suite()[planted.requirement]], requirements, lambda outcome: None
    )

    assert outcome.status is Status.FAILED, outcome
