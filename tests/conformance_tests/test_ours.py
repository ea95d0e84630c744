"""The adapters of this repository, before the suite."""

from __future__ import annotations

import pytest

from adapter_api import load_plugins
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.harness import Backend, Harness
from conformance_tests.mock_harness import MockHarness
from conformance_tests.outcome import Outcome, Status
from conformance_tests.plugin_harness import PluginHarness, harness_for
from conformance_tests.reference import ReferenceHarness
from triton_adapter.conformance import TritonHarness
from triton_adapter.embedded import EmbeddedTriton

no_spec = "it is about all requirements"


def outcomes_on(harness: Harness) -> dict[str, Outcome]:
    requirements = {requirement.id: requirement for requirement in load().requirements}
    run = Session(harness).run_all(load_suite().values(), requirements, lambda outcome: None)
    return {outcome.requirement: outcome for outcome in run}


def bad(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    fine = (Status.PASSED, Status.NOT_APPLICABLE, Status.SKIPPED)
    return {id: outcome for id, outcome in outcomes.items() if outcome.status not in fine}


@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.long)])
def test_the_reference_keeps_every_requirement_with_nothing_skipped(backend: Backend) -> None:
    outcomes = outcomes_on(ReferenceHarness(backend=backend))

    assert bad(outcomes) == {}
    assert [id for id, outcome in outcomes.items() if outcome.status is Status.SKIPPED] == []


@pytest.mark.parametrize("backend", [pytest.param("asyncio", marks=pytest.mark.long), "trio"])
def test_the_mock_is_conformant(backend: Backend) -> None:
    harness = MockHarness()
    harness.backend = backend

    assert bad(outcomes_on(harness)) == {}


@pytest.mark.long
def test_an_adapter_without_a_harness_of_its_own_can_be_tried() -> None:
    harness = PluginHarness(load_plugins().adapter("mock"), {"delay_s": "0.001"})

    outcomes = outcomes_on(harness)

    assert bad(outcomes) == {}
    assert harness.model == "mock"
    assert outcomes["ORCH-3057-001"].status is Status.SKIPPED


def test_a_plugin_brings_its_own_harness() -> None:
    assert isinstance(harness_for(load_plugins().adapter("mock"), {}), MockHarness)


@pytest.mark.live
def test_triton_is_conformant(triton: EmbeddedTriton) -> None:
    assert bad(outcomes_on(TritonHarness(server=triton))) == {}
