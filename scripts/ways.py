"""Write the table of ways and capabilities in docs/ways.md from the code; `--check` says whether it is fresh."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from table_page import ROOT, with_table, write_or_check

from adapter_api import AdapterPlugin, Capability, load_plugins
from triton_adapter.transports.ways import WAYS

PAGE = ROOT / "docs" / "ways.md"
_NOT_SHOWN = frozenset({"mock", "parrot"})
"""Adapters that reach no engine."""
_YES, _NO = "✓", "–"


class Row(NamedTuple):
    """A way to an engine: what it is called, and what it can do."""

    name: str
    capabilities: frozenset[Capability]
    lacks: Mapping[Capability, str] = {}
    limits: Mapping[Capability, str] = {}


def rows() -> Iterator[Row]:
    """Yield the ways of every adapter of ours: Triton's by its transports, the others by what they declare."""
    for adapter in load_plugins().adapters:
        if adapter.name == "triton":
            yield from _of_triton(adapter)
        elif adapter.name not in _NOT_SHOWN:
            yield Row(adapter.name, adapter.capabilities)


def _of_triton(adapter: AdapterPlugin) -> Iterator[Row]:
    for traits in WAYS.values():
        able = adapter.capabilities - traits.lacks.keys()
        yield Row(f"triton, {traits.called}", able, traits.lacks, traits.limits)


def table(ways: list[Row]) -> str:
    """Return the table, and what its numbers say below it."""
    notes: list[str] = []

    def cell(row: Row, capability: Capability) -> str:
        mark = _YES if capability in row.capabilities else _NO
        why = row.limits.get(capability) if capability in row.capabilities else row.lacks.get(capability)
        if why is None:
            return mark
        notes.append(f"`{capability.value}` by {row.name}: {why}")
        return f"{mark} [{len(notes)}]"

    lines = [f"| capability | {' | '.join(row.name for row in ways)} |", "|---" * (len(ways) + 1) + "|"]
    for capability in Capability:
        lines.append(f"| `{capability.value}` | {' | '.join(cell(row, capability) for row in ways)} |")
    told = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *told, ""])


def fresh(page: str) -> str:
    """Return the page with the table as it should be."""
    return with_table(page, table(list(rows())))


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, fresh, sys.argv[1:]))
