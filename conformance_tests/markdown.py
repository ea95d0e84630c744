"""Reports for people: one screen of Markdown, and a line for a badge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from adapter_api import Capability
from conformance_tests.outcome import Status
from conformance_tests.proofs import PROOFS
from conformance_tests.report import Conformity, Report, Result

MOST_LISTED = 12
"""How many requirements of a kind are listed before the rest is only counted: the whole is to fit a screen."""

_COLOURS: dict[Conformity, str] = {
    "conformant": "brightgreen",
    "conformant with deviations": "green",
    "incomplete": "yellow",
    "not conformant": "red",
}

_SECTIONS = (
    (Status.FAILED, "Failed"),
    (Status.UNEXPECTED_PASS, "Passed against the deviations file"),
    (Status.BROKEN, "The harness broke"),
    (Status.BLOCKED, "Blocked by something else"),
    (Status.DEVIATION, "Deviations"),
)


def render(report: Report) -> str:
    """Return the report as Markdown that fits a screen."""
    under = report.under
    lines = [
        f"# {under.adapter}: {verdict_line(report)}",
        "",
        *_what_is_missing(report),
        f"{_counted(report)}. Engine: {under.engine_label}. {report.started_at}, {report.duration_s:.1f} s, "
        f"on {under.backend}, seed {report.seed}, suite {report.suite_version}{', strict' if report.strict else ''}.",
        "",
        *_table(report),
    ]
    for status, title in _SECTIONS:
        lines += _section(title, [result for result in report.results if result.status is status])
    lines += _grouped("Skipped", (result for result in report.results if result.status is Status.SKIPPED))
    if report.engine_deaths:
        lines += ["", "## The engine died", ""]
        lines += [
            f"- in the check of {death.requirement}: {death.reason}" for death in report.engine_deaths[:MOST_LISTED]
        ]
        if len(report.engine_deaths) > MOST_LISTED:
            lines.append(f"- … and {len(report.engine_deaths) - MOST_LISTED} more times")
    not_run = [result.id for result in report.results if result.status is Status.NOT_RUN]
    if not_run:
        lines += ["", f"Not run: {_listed(not_run)}."]
    return "\n".join(lines) + "\n"


def verdict_line(report: Report) -> str:
    """Return the verdict with what it rests on: how many requirements were proved, skipped, and cannot be proved."""
    counts = report.counts
    undecided = sum(counts.get(status, 0) for status in (Status.BLOCKED, Status.BROKEN, Status.NOT_RUN))
    parts = [
        f"{counts.get(Status.PASSED, 0)} proved",
        f"{counts.get(Status.SKIPPED, 0)} skipped",
        *([f"{undecided} undecided"] if undecided else []),
        f"{len(report.proved)} of {_declared(report)} capabilities proved",
        f"not provable: {', '.join(report.not_provable) or 'none'}",
        *([report.deaths_told] if report.engine_deaths else []),
    ]
    return f"{report.verdict} ({', '.join(parts)})"


def _declared(report: Report) -> int:
    return len(report.under.capabilities)


def _what_is_missing(report: Report) -> Iterable[str]:
    """Say which proofs a verdict waits for, and what they need."""
    if not report.under.capabilities:
        yield from ("The adapter declares no capability, or could not be asked: nothing of it is proved.", "")
    if report.unproved:
        needs = [f"{name} ({PROOFS[Capability(name)]})" for name in report.unproved]
        yield from (f"Declared and not proved: {', '.join(needs)}. The reasons are below.", "")


def badge(report: Report) -> str:
    """Return one line of Markdown: an image that says the verdict."""
    passed = report.counts.get(Status.PASSED, 0)
    text = f"{report.verdict}, {passed} passed".replace("-", "--").replace(" ", "_").replace(",", "%2C")
    alternative = f"worker-adapter conformance: {report.verdict}, {passed} passed"
    return f"![{alternative}](https://img.shields.io/badge/worker--adapter-{text}-{_COLOURS[report.verdict]})"


def _counted(report: Report) -> str:
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in report.counts.items())


def _table(report: Report) -> Iterable[str]:
    """Yield one row per chapter."""
    chapters: dict[str, list[Result]] = defaultdict(list)
    for result in report.results:
        chapters[result.id.rsplit("-", 1)[0]].append(result)
    yield "| chapter | passed | failed | other | of |"
    yield "|---|---:|---:|---:|---:|"
    for chapter, results in chapters.items():
        passed = sum(result.status is Status.PASSED for result in results)
        failed = sum(result.status in (Status.FAILED, Status.UNEXPECTED_PASS) for result in results)
        yield f"| {chapter} | {passed} | {failed} | {len(results) - passed - failed} | {len(results)} |"


def _section(title: str, results: Sequence[Result]) -> Iterable[str]:
    if not results:
        return
    yield from ("", f"## {title}", "")
    for result in results[:MOST_LISTED]:
        should = " (SHOULD)" if result.keyword.startswith("SHOULD") else ""
        yield f"- **{result.id}**{should} {result.text} — {result.reason}"
    if len(results) > MOST_LISTED:
        yield f"- … and {len(results) - MOST_LISTED} more: {_listed([r.id for r in results[MOST_LISTED:]])}"


def _grouped(title: str, results: Iterable[Result]) -> Iterable[str]:
    """Yield the results by reason, as one missing harness method skips many."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for result in results:
        # One method that the harness lacks is a reason in several wordings.
        by_reason[result.reason.rpartition(": ")[2]].append(result.id)
    if by_reason:
        yield from ("", f"## {title}", "")
    for reason, ids in sorted(by_reason.items()):
        yield f"- {reason}: {_listed(ids)}"


def _listed(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:MOST_LISTED])
    return shown if len(ids) <= MOST_LISTED else f"{shown} and {len(ids) - MOST_LISTED} more"
