"""The command line of the suite."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from adapter_api import AdapterError, load_plugins
from adapter_kit.standard_streams import abandon, tell
from conformance_tests.catalog import Catalog, Requirement, load
from conformance_tests.checks import Check, load_suite
from conformance_tests.comparison import compare, render_comparison, render_matrix
from conformance_tests.deviations import DeviationsError, read_deviations
from conformance_tests.execution import DEFAULT_TIMEOUT_S, Session
from conformance_tests.harness import Harness
from conformance_tests.junit import render_junit
from conformance_tests.markdown import badge, render
from conformance_tests.outcome import HarnessBroke, Outcome, Status
from conformance_tests.plugin_harness import harness_for
from conformance_tests.report import (
    HARNESS_BROKE,
    NOT_WRITTEN,
    USAGE,
    Report,
    Under,
    encode_report,
    make_report,
    read_report,
)

_MARKS = {
    Status.PASSED: "pass", Status.FAILED: "FAIL", Status.SKIPPED: "skip", Status.NOT_APPLICABLE: "n/a ",
    Status.BLOCKED: "BLOCKED", Status.BROKEN: "BROKEN",
}  # fmt: skip


_STAYS_BEHIND = ("conformance_tests.mutants", "conformance_tests.reference")
"""What proves the suite itself, and is not in the wheel."""


class UsageError(Exception):
    """The command line asks for something that there is not."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # As in every program of ours: an adapter's grpc would write lines of its own between those of the report.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        match arguments:
            case ["compare", *rest]:
                return _compare(rest)
            case ["matrix", *rest]:
                return _matrix(rest)
        return _run(_parser().parse_args(arguments))
    except UsageError as exc:
        tell(f"conformance: {exc}")
        return USAGE
    except HarnessBroke as exc:
        tell(f"conformance: {exc.reason}")
        return HARNESS_BROKE
    except BrokenPipeError:  # as `head` does; whoever stops reading knows it
        abandon(sys.stdout)
        return NOT_WRITTEN
    except OSError as exc:
        abandon(sys.stdout)
        tell(f"conformance: cannot write {exc.filename or 'to standard output'}: {exc.strerror}")
        return NOT_WRITTEN


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m conformance_tests",
        description="Run the conformance suite on an adapter.",
        epilog="Other commands: compare BEFORE.json AFTER.json (exit code 1 when something got worse); "
        "matrix REPORT.json… (a table of many adapters). "
        "Exit codes: 0 conformant, 1 not, 2 incomplete, 3 the harness broke, 4 wrong usage, "
        "5 the result could not be written.",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--adapter", metavar="NAME", help="the adapter of that name, found by its entry point")
    who.add_argument("--harness", metavar="MODULE:CLASS", help="a harness, for an adapter that has no entry point")
    parser.add_argument("--option", metavar="K=V", action="append", default=[], help="an option of its harness")
    parser.add_argument("--only", metavar="PREFIX", action="append", default=[], help="run the IDs that begin so")
    parser.add_argument("--list", action="store_true", help="list the requirements and run nothing")
    parser.add_argument("--explain", metavar="ID", help="say what a requirement demands, why, and what its check does")
    parser.add_argument("--strict", action="store_true", help="count SHOULDs and what the harness cannot do")
    parser.add_argument("--seed", type=int, default=0, help="seed of whatever the checks choose (default 0)")
    parser.add_argument(
        "--timeout", type=float, metavar="S", default=DEFAULT_TIMEOUT_S, help="seconds that each check may take"
    )
    parser.add_argument("--backend", choices=("asyncio", "trio"), help="event loop (default: the harness's)")
    parser.add_argument("--deviations", type=Path, metavar="FILE", help="TOML file of failures that are known")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.json, report.md and junit.xml there")
    parser.add_argument("--quiet", action="store_true", help="print the summary only")
    return parser


def _run(options: argparse.Namespace) -> int:
    catalog, suite = load(), load_suite()
    chosen = _chosen(catalog, options.only)
    if options.explain:
        print(_explanation(catalog, suite, options.explain))
        return 0
    if options.list:
        for requirement in chosen:
            print(f"{requirement.id}  {requirement.when:16}  {requirement.text}")
        return 0
    harness = _harness(options)
    if options.report is not None:
        # Before the run, not after it: a folder that cannot be made is told at once.
        options.report.mkdir(parents=True, exist_ok=True)
    try:
        deviations = {} if options.deviations is None else read_deviations(options.deviations, catalog)
    except DeviationsError as exc:
        raise UsageError(str(exc)) from exc
    began = time.time()
    session = Session(harness, seed=options.seed, timeout_s=options.timeout)
    outcomes = session.run_all(
        [suite[requirement.id] for requirement in chosen if requirement.id in suite],
        {requirement.id: requirement for requirement in chosen},
        lambda outcome: None if options.quiet else _tell(outcome),
    )
    report = make_report(
        outcomes,
        catalog=catalog,
        under=describe(session, options.adapter),
        deviations=deviations,
        started_at=began,
        duration_s=time.time() - began,
        seed=options.seed,
        strict=options.strict,
    )
    if options.report is not None:
        write_reports(report, options.report)
    print(("" if options.quiet else "\n") + render(report), end="")
    return report.exit_code


def _chosen(catalog: Catalog, prefixes: Sequence[str]) -> list[Requirement]:
    """Return the requirements of the suite whose IDs begin in one of these ways; all without any."""
    of_suite = [requirement for requirement in catalog.requirements if requirement.verify == "conformance"]
    for prefix in prefixes:
        if not any(requirement.id.startswith(prefix) for requirement in of_suite):
            raise UsageError(f"--only {prefix}: no requirement of the suite begins so; --list shows them")
    return [r for r in of_suite if not prefixes or r.id.startswith(tuple(prefixes))]


def _explanation(catalog: Catalog, suite: dict[str, Check], id: str) -> str:
    try:
        requirement = catalog[id]
    except KeyError:
        hint = "was withdrawn" if id in catalog.withdrawn else "is no requirement; --list shows those there are"
        raise UsageError(f"--explain {id}: {id} {hint}") from None
    check = suite.get(id)
    how = f"{check.steps}\n({check.name})" if check else "This project's own tests show it; the suite does not."
    parts = [
        f"{requirement.id} ({requirement.keyword}, since {requirement.since}, when: {requirement.when})",
        textwrap.fill(requirement.text, 100),
        textwrap.fill(f"Why: {requirement.why}", 100),
        f"How it is checked: {how}",
    ]
    return "\n\n".join(parts)


def _harness(options: argparse.Namespace) -> Harness:
    given = dict(_option(text) for text in options.option)
    try:
        if options.harness is not None:
            harness = _import_harness(options.harness).from_options(given)
            harness.backend = options.backend or harness.backend
            return harness
        if options.adapter is None:
            raise UsageError("name an adapter with --adapter NAME, or a harness with --harness MODULE:CLASS")
        return harness_for(load_plugins().adapter(options.adapter), given, options.backend)
    except (UsageError, HarnessBroke):
        raise
    except AdapterError as exc:
        raise UsageError(str(exc)) from exc
    except TypeError as exc:
        raise UsageError(f"the harness cannot be made{' with these options' if given else ''}: {exc}") from exc
    except Exception as exc:
        raise HarnessBroke(f"the harness could not be made: {type(exc).__name__}: {exc}") from exc


def _option(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise UsageError(f"--option {text}: write it as name=value")
    return name, value


def _import_harness(target: str) -> type[Harness]:
    module, _, name = target.partition(":")
    # As `python -m` does, so that a harness beside the reader's code is found from the installed program too.
    sys.path.insert(0, str(Path.cwd()))
    try:
        harness = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise UsageError(f"--harness {target}: {exc}{_why_not_here(exc)}") from exc
    except Exception as exc:
        raise HarnessBroke(f"importing {module} raised {type(exc).__name__}: {exc}") from exc
    if not (isinstance(harness, type) and issubclass(harness, Harness)):
        raise UsageError(f"--harness {target}: is no subclass of conformance_tests.Harness")
    return harness


def _why_not_here(exc: Exception) -> str:
    missing = (exc.name or "") if isinstance(exc, ModuleNotFoundError) else ""
    if missing.startswith(_STAYS_BEHIND):
        return ": it is in worker-adapter's repository and source distribution only, not in an installed wheel"
    return ""


def describe(session: Session, adapter: str | None = None) -> Under:
    """Return what a session tests, as the adapter told it."""
    harness, props = session.harness, session.known_facts.props
    return Under(
        adapter=harness.name or adapter or harness.plugin or type(harness).__name__,
        engine=props.engine if props else None,
        engine_version=props.engine_version if props else None,
        capabilities=tuple(sorted(props.capabilities)) if props else (),
        harness=f"{type(harness).__module__}:{type(harness).__qualname__}",
        backend=harness.backend,
    )


def write_reports(report: Report, folder: Path) -> None:
    """Write a report in all its forms into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(encode_report(report))
    (folder / "report.md").write_text(f"{badge(report)}\n\n{render(report)}", encoding="utf-8")
    (folder / "junit.xml").write_bytes(render_junit(report))


def _tell(outcome: Outcome) -> None:
    name = (outcome.check or "").rpartition("::")[2].removeprefix("test_").replace("_", " ")
    reason = f": {outcome.reason}" if outcome.reason else ""
    print(f"{_MARKS[outcome.status]}  {outcome.requirement}  {name}{reason}", flush=True)


def _compare(arguments: Sequence[str]) -> int:
    parser = _Parser(prog="python -m conformance_tests compare", description="Say what changed between two reports.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    before, after = _read(options.before), _read(options.after)
    print(render_comparison(before, after), end="")
    return 1 if any(change.is_regression for change in compare(before, after)) else 0


def _matrix(arguments: Sequence[str]) -> int:
    parser = _Parser(prog="python -m conformance_tests matrix", description="Print a table of many reports.")
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--badges", action="store_true", help="print a badge line for each report instead")
    parser.add_argument("--into", type=Path, metavar="FILE", help="put it between the marks of this document instead")
    options = parser.parse_args(arguments)
    reports = [_read(path) for path in options.reports]
    shown = "\n".join(badge(report) for report in reports) + "\n" if options.badges else render_matrix(reports)
    if options.into is None:
        print(shown, end="")
    else:
        _put_into(options.into, shown)
    return 0


MATRIX_BEGINS, MATRIX_ENDS = "<!-- matrix begins: generated -->", "<!-- matrix ends -->"


def _put_into(document: Path, shown: str) -> None:
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"--into {document}: {exc}") from exc
    before, begins, rest = text.partition(MATRIX_BEGINS)
    _, ends, after = rest.partition(MATRIX_ENDS)
    if not (begins and ends):
        raise UsageError(f"--into {document}: has no lines {MATRIX_BEGINS} and {MATRIX_ENDS}")
    document.write_text(f"{before}{begins}\n\n{shown}\n{ends}{after}", encoding="utf-8")


def _read(path: Path) -> Report:
    try:
        return read_report(path)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
