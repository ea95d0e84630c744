"""Failures that an author knows of: listed, they stand in the report; a listed one that passes fails the run.

# deviations.toml
[deviations]
"ORCH-3060-014" = "the engine lets go only when it next produces a token; see issue 41"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from conformance_tests.catalog import Catalog
from conformance_tests.outcome import Outcome, Status


class DeviationsError(ValueError):
    """The deviations file cannot be used; the message says why."""


def read_deviations(path: Path, catalog: Catalog) -> dict[str, str]:
    """Return the reason for each requirement that is expected to fail.

    Raises:
        DeviationsError: The file cannot be read, or names something that is no requirement, or gives no reason.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DeviationsError(f"{path}: cannot be read: {exc}") from exc
    table = content.pop("deviations", {})
    if content or not isinstance(table, dict):
        raise DeviationsError(f"{path}: needs one table [deviations], and has {sorted(content) or 'none'}")
    for id, reason in table.items():
        if id not in catalog.ids:
            raise DeviationsError(f"{path}: {id} is no requirement; --list shows those there are")
        if not isinstance(reason, str) or not reason.strip():
            raise DeviationsError(f"{path}: {id} needs its reason, as a text")
    return table


def expected(outcome: Outcome, deviations: Mapping[str, str]) -> Outcome:
    """Return an outcome as the deviations make it: an expected failure, or a pass that nobody expected."""
    reason = deviations.get(outcome.requirement)
    if reason is None:
        return outcome
    if outcome.status is Status.FAILED:
        return msgspec.structs.replace(outcome, status=Status.DEVIATION, reason=f"{reason} [{outcome.reason}]")
    if outcome.status is Status.PASSED:
        unexpected = "it passes: take it out of the deviations file"
        return msgspec.structs.replace(outcome, status=Status.UNEXPECTED_PASS, reason=unexpected)
    return outcome
