"""The checks there are: one per requirement, each an async function that raises what it finds.

@requirement("ORCH-3059-001")
async def test_a_stream_begins_with_started(subject: Subject) -> None:
    '''Run a task and look at its first event.'''
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from conformance_tests.subject import Subject

SUITE = "conformance_tests.suite"

CheckFunction = Callable[[Subject], Awaitable[None]]


class Check(NamedTuple):
    """The test of one requirement."""

    requirement: str
    function: CheckFunction

    @property
    def name(self) -> str:
        """Where the check is: `module::function`."""
        return f"{self.function.__module__}::{self.function.__qualname__}"

    @property
    def steps(self) -> str:
        """What the check does, for people."""
        return inspect.getdoc(self.function) or ""

    @property
    def location(self) -> str:
        code = self.function.__code__
        return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


class Runner(Protocol):
    """What runs a check for pytest."""

    def run(self, check: Check) -> None: ...


TestFunction = Callable[[Any], None]
"""What pytest collects: a plain function of the fixture `conformance`, so that no async plugin has a say in it."""

_checks: dict[str, Check] = {}


def requirement(id: str) -> Callable[[CheckFunction], TestFunction]:
    """Register an async function as the check of a requirement and return the test that pytest runs.

    Raises:
        ValueError: The requirement has a check already.
    """

    def register(function: CheckFunction) -> TestFunction:
        check = Check(id, function)
        if id in _checks:
            raise ValueError(f"{id} has two checks, {_checks[id].name} and {check.name}: one test, one requirement")
        _checks[id] = check

        def test(conformance: Runner) -> None:
            conformance.run(check)

        test.__name__ = test.__qualname__ = function.__name__
        test.__module__ = function.__module__
        test.__doc__ = function.__doc__
        # pytest collects it whatever `python_functions` says.
        test.__test__ = True  # type: ignore[attr-defined]
        test.__conformance_check__ = check  # type: ignore[attr-defined]
        return test

    return register


def load_suite() -> dict[str, Check]:
    """Return every check by its requirement, in the order of the suite."""
    importlib.import_module(SUITE)
    return dict(sorted(_checks.items()))


def check_of(test: object) -> Check | None:
    """Return the check behind a test function; `None` for a function that only looks like one of the suite's."""
    check = getattr(test, "__conformance_check__", None)
    return check if isinstance(check, Check) and _checks.get(check.requirement) is check else None
