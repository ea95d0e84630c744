"""A page of docs/ with a table between two marks that is made from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BEGINS, _ENDS = "<!-- table begins: generated -->\n", "<!-- table ends -->\n"


def with_table(page: str, table: str) -> str:
    """Return the page with that table between its marks."""
    before, _, rest = page.partition(_BEGINS)
    _, _, after = rest.partition(_ENDS)
    return f"{before}{_BEGINS}\n{table}\n{_ENDS}{after}"


def write_or_check(path: Path, fresh: Callable[[str], str], arguments: list[str]) -> int:
    """Write a page as `fresh` makes it; with `--check`, only say whether it is so. Returns the exit code."""
    page = path.read_text(encoding="utf-8")
    if fresh(page) == page:
        return 0
    if "--check" in arguments:
        print(f"{path.relative_to(ROOT)} is stale: run {Path(sys.argv[0]).name}", file=sys.stderr)
        return 1
    path.write_text(fresh(page), encoding="utf-8")
    return 0
