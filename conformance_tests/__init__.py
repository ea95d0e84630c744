"""A suite, tagged with requirement IDs, that anybody's adapter can run.

    # test_conformance.py, in the adapter's own repository
    from conformance_tests.suite import *  # noqa: F403

    @pytest.fixture(scope="session")
    def conformance_harness():
        return MyHarness()                 # a conformance_tests.Harness

or, without pytest, `python -m conformance_tests --adapter NAME --option url=…`. The requirements are in `specs/`;
`conformance_tests.mutants` proves that each check can fail.

Importing this package loads nothing: it is imported in every pytest run where the distribution is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance_tests.harness import (
        Echo,
        Harness,
        KnownReasoning,
        KnownResponses,
        KnownTensors,
        KnownText,
        KnownToolCalls,
    )
    from conformance_tests.outcome import Skipped
    from conformance_tests.report import Report, read_report
    from conformance_tests.tensor_cases import echo_tensors, sample_tensor

__all__ = [
    # what an author writes
    "Harness", "Echo", "KnownText", "KnownToolCalls", "KnownReasoning", "KnownTensors", "KnownResponses", "Skipped",
    "echo_tensors", "sample_tensor",
    # what comes of it
    "Report", "read_report",
]  # fmt: skip

_HOMES = {
    "Harness": "harness", "Echo": "harness",
    "KnownText": "harness", "KnownTensors": "harness", "KnownResponses": "harness",
    "KnownToolCalls": "harness", "KnownReasoning": "harness",
    "Skipped": "outcome", "echo_tensors": "tensor_cases", "sample_tensor": "tensor_cases",
    "Report": "report", "read_report": "report",
}  # fmt: skip


if not TYPE_CHECKING:  # with it, a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
