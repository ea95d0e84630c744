"""How a mutant is made, and run."""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from adapter_api import Capability
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.mutants.clock import jumping
from conformance_tests.outcome import Outcome, Status
from conformance_tests.reference import ReferenceAdapter, ReferenceHarness
from conformance_tests.reference.adapter import CAPABILITIES


class Mutant(NamedTuple):
    """An adapter that breaks one requirement. `without` are capabilities that it does not declare."""

    requirement: str
    name: str
    adapter: type[ReferenceAdapter] = ReferenceAdapter
    without: frozenset[Capability] = frozenset()
    plugin: str | None = None

    def __str__(self) -> str:
        return f"{self.requirement}-{self.name}"


class HurryingHarness(ReferenceHarness):
    """Runs on a clock that jumps over every wait, so that an adapter that hangs costs no time."""

    settle_s = 10.0
    long_tokens = 300
    streams = 20

    def __init__(
        self,
        adapter_class: type[ReferenceAdapter] = ReferenceAdapter,
        capabilities: frozenset[Capability] = CAPABILITIES,
    ) -> None:
        super().__init__(adapter_class=adapter_class, capabilities=capabilities, pace_s=0.2)

    def backend_options(self) -> dict[str, Any]:
        return jumping()


class MutantHarness(HurryingHarness):
    """Tries a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.adapter, CAPABILITIES - mutant.without)
        self.name = str(mutant)
        self.plugin_module = mutant.plugin or self.plugin_module


_mutants: list[Mutant] = []
Adapter = TypeVar("Adapter", bound=type[ReferenceAdapter])


def breaks(
    requirement: str,
    *,
    without: Iterable[Capability] = (),
    final: Mapping[str, Any] | None = None,
    plugin: str | None = None,
) -> Callable[[Adapter], Adapter]:
    """Register an adapter class as a mutant.

    Args:
        requirement: The one that it breaks.
        without: Capabilities that it does not declare.
        final: Replacements of final methods, which a class cannot override in its body.
        plugin: The plugin module that belongs to it.
    """

    def register(adapter: Adapter) -> Adapter:
        for name, replacement in (final or {}).items():
            setattr(adapter, name, replacement)
        _mutants.append(Mutant(requirement, adapter.__name__, adapter, frozenset(without), plugin))
        return adapter

    return register


def breaks_plugin(requirement: str, module: str) -> None:
    """Register a plugin module as a mutant."""
    _mutants.append(Mutant(requirement, module.rpartition(".")[2], plugin=module))


def mutants() -> tuple[Mutant, ...]:
    """Return every mutant."""
    package = importlib.import_module("conformance_tests.mutants")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "__main__":
            importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(sorted(_mutants, key=lambda mutant: (mutant.requirement, mutant.name)))


def trial(mutant: Mutant, only: Iterable[str] | None = None, *, timeout_s: float = 300.0) -> list[Outcome]:
    """Run the whole suite on a mutant, or the checks of `only` these requirements."""
    suite = load_suite()
    checks = suite.values() if only is None else [suite[requirement] for requirement in only]
    requirements = {requirement.id: requirement for requirement in load().requirements}
    session = Session(MutantHarness(mutant), timeout_s=timeout_s)
    with contextlib.redirect_stdout(io.StringIO()):
        return session.run_all(checks, requirements, lambda outcome: None)


def found_broken(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Return the requirements that failed, or on which the harness broke, with the reasons."""
    return {o.requirement: o.reason for o in outcomes if o.status in (Status.FAILED, Status.BROKEN)}
