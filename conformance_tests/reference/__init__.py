"""An adapter that keeps every requirement, and an engine in this process that breaks on demand.

What the suite passes on here it can be seen to fail on in `conformance_tests.mutants`, which spoil this adapter one way
each. Read `adapter.py` as an example with everything in it; `examples/minimal_adapter` is the short one.
"""

from conformance_tests.reference.adapter import ReferenceAdapter, ReferenceSettings
from conformance_tests.reference.engine import Engine, Fault, Unreachable
from conformance_tests.reference.harness import ReferenceHarness

__all__ = ["Engine", "Fault", "ReferenceAdapter", "ReferenceHarness", "ReferenceSettings", "Unreachable"]
