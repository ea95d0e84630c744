"""Check that every requirement has a test and every test module a requirement; run by `make check`.

Tests name requirements: `@pytest.mark.spec("ORCH-3056-003")` in `tests/`, `@requirement("ORCH-3056-003")` in
`conformance_tests/suite/`. Only the source is read; nothing is imported. A module of `tests/` that proves no
requirement says so with a line `no_spec = "reason"`. `--write` brings `specs/awaiting.txt` up to date: the requirements
that have no test yet.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from conformance_tests.catalog import Catalog, read_specs

ROOT = Path(__file__).resolve().parent.parent

AREAS = ("adapter_api", "orchestrator", "conformance_tests")
"""Folders of `tests/` whose modules are about what the specifications say."""

_NAMING_CALLS = ("spec", "requirement")
_AWAITING_HEAD = """\
# Requirements that have no test yet. Brought up to date by `make catalog`; empty in a release.
"""


def named_ids(source: str) -> dict[str, int]:
    """Return the requirement IDs that a module's marks and decorators name, each with the line of its first naming."""
    found: dict[str, int] = {}
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and _callee(call) in _NAMING_CALLS:
            for argument in call.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.setdefault(argument.value, argument.lineno)
    return found


def stated_reason(source: str) -> str | None:
    """Return the reason that a module gives for naming no requirement, if it gives one."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "no_spec" for t in node.targets):
            value = node.value
            return value.value.strip() if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    return None


def find_problems(root: Path, catalog: Catalog) -> list[str]:
    """Return what is wrong between the specifications and the tests below `root`."""
    tests = _named_below(root, root / "tests")
    suite = _named_below(root, root / "conformance_tests" / "suite")
    awaiting = read_awaiting(root / "specs" / "awaiting.txt")
    problems = [
        f"{place}: {id} is no requirement of specs/"
        for id, place in sorted({**suite, **tests}.items())
        if id not in catalog.ids
    ]
    untested = untested_ids(catalog, tests, suite)
    for id in sorted(untested - awaiting):
        problems.append(f"specs/{catalog[id].file}: {id} has no test: write one, or enter it in specs/awaiting.txt")
    for id in sorted(awaiting - untested):
        reason = "has a test by now" if id in catalog.ids else "is no requirement"
        problems.append(f"specs/awaiting.txt: {id} {reason}: run `make catalog`")
    return [*problems, *_silent_modules(root)]


def untested_ids(catalog: Catalog, tests: Iterable[str], suite: Iterable[str]) -> frozenset[str]:
    """Return the requirements without a test; one that the suite verifies may be tested in either place."""
    in_tests, anywhere = set(tests), {*tests, *suite}
    return frozenset(
        requirement.id
        for requirement in catalog.requirements
        if requirement.id not in (in_tests if requirement.verify == "test" else anywhere)
    )


def read_awaiting(path: Path) -> frozenset[str]:
    """Return the IDs in the list; text after `#` is a remark."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return frozenset(id for line in lines if (id := line.partition("#")[0].strip()))


def _callee(call: ast.Call) -> str | None:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def _named_below(root: Path, folder: Path) -> dict[str, str]:
    """Return each ID named below `folder` and where."""
    named: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for id, line in named_ids(path.read_text(encoding="utf-8")).items():
            named.setdefault(id, f"{path.relative_to(root)}:{line}")
    return named


def _silent_modules(root: Path) -> Iterator[str]:
    """Yield a complaint about each test module that names no requirement and does not say why."""
    for area in AREAS:
        for path in sorted((root / "tests" / area).rglob("test_*.py")):
            source = path.read_text(encoding="utf-8")
            named, reason = named_ids(source), stated_reason(source)
            if not named and not reason:
                yield f'{path.relative_to(root)}: names no requirement; mark its tests, or say `no_spec = "reason"`'
            elif named and reason is not None:
                yield f"{path.relative_to(root)}: says `no_spec` and names {min(named)}"


def main(arguments: list[str]) -> int:
    catalog, _ = read_specs(ROOT / "specs")
    awaiting = ROOT / "specs" / "awaiting.txt"
    if arguments == ["--write"]:
        tests, suite = _named_below(ROOT, ROOT / "tests"), _named_below(ROOT, ROOT / "conformance_tests" / "suite")
        untested = sorted(untested_ids(catalog, tests, suite))
        awaiting.write_text(_AWAITING_HEAD + "".join(f"{id}\n" for id in untested), encoding="utf-8")
        return 0
    problems = find_problems(ROOT, catalog)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
