"""Write the table of ways and capabilities in docs/ways.md from the code; `--check` says whether it is fresh."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from adapter_api import AdapterPlugin, Capability, load_plugins
from triton_adapter.transports.ways import WAYS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "ways.md"
_BEGINS, _ENDS = "<!-- table begins: generated -->\n", "<!-- table ends -->\n"
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
    before, _, rest = page.partition(_BEGINS)
    _, _, after = rest.partition(_ENDS)
    return f"{before}{_BEGINS}\n{table(list(rows()))}\n{_ENDS}{after}"


def main(arguments: list[str]) -> int:
    page = PAGE.read_text(encoding="utf-8")
    if fresh(page) == page:
        return 0
    if "--check" in arguments:
        print(f"{PAGE.relative_to(ROOT)} is stale: run {Path(sys.argv[0]).name}", file=sys.stderr)
        return 1
    PAGE.write_text(fresh(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
