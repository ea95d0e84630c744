"""Several reports at once: what got worse between two runs, and a table of many adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from conformance_tests.outcome import Status
from conformance_tests.report import Report

_GOOD = frozenset({Status.PASSED})
_BAD = frozenset({Status.FAILED, Status.UNEXPECTED_PASS, Status.BLOCKED, Status.BROKEN, Status.DEVIATION})


class Change(msgspec.Struct, frozen=True):
    """A requirement that became something else; a requirement that one report does not have is `None` there."""

    id: str
    before: Status | None
    after: Status | None

    @property
    def is_regression(self) -> bool:
        """A pass that is no longer one, or a requirement that is new and fails."""
        if self.before in _GOOD:
            return self.after not in _GOOD
        return self.after in _BAD and self.before not in _BAD


def compare(before: Report, after: Report) -> list[Change]:
    """Return what changed, regressions first."""
    old = {result.id: result.status for result in before.results}
    new = {result.id: result.status for result in after.results}
    changes = [Change(id, old.get(id), new.get(id)) for id in sorted(old.keys() | new.keys())]
    changes = [change for change in changes if change.before is not change.after]
    return sorted(changes, key=lambda change: (not change.is_regression, change.id))


def render_comparison(before: Report, after: Report) -> str:
    """Return the changes as Markdown."""
    changes = compare(before, after)
    worse = [change for change in changes if change.is_regression]
    lines = [
        f"# {before.under.adapter} ({before.started_at}) → {after.under.adapter} ({after.started_at})",
        "",
        f"Verdict: {before.verdict} → {after.verdict}. {len(worse)} regressions, {len(changes) - len(worse)} other "
        "changes.",
    ]
    if before.catalog != after.catalog:
        lines += ["", "The reports are of different catalogs: some requirements are in one of them only."]
    if changes:
        lines += ["", "| requirement | before | after | |", "|---|---|---|---|"]
    for change in changes:
        mark = "regression" if change.is_regression else ""
        lines.append(f"| {change.id} | {change.before or 'absent'} | {change.after or 'absent'} | {mark} |")
    return "\n".join(lines) + "\n"


def render_matrix(reports: Sequence[Report]) -> str:
    """Return a table of adapters by chapters as Markdown: passed of those that apply, and the verdict."""
    chapters = sorted({result.id.rsplit("-", 1)[0] for report in reports for result in report.results})
    lines = [
        "| adapter | engine | " + " | ".join(chapters) + " | verdict | date | suite |",
        "|---|---|" + "---|" * (len(chapters) + 3),
    ]
    for report in reports:
        cells = [_cell(report, chapter) for chapter in chapters]
        date = report.started_at.partition("T")[0]
        lines.append(
            f"| {report.under.adapter} ({report.under.backend}) | {report.under.engine_label} | {' | '.join(cells)} "
            f"| {report.verdict} | {date} | {report.suite_version} |"
        )
    lines += ["", "Each cell: passed of those that apply; f failed, d deviations, s skipped because the harness "
                  "cannot do what the check needs, b blocked or broken, n not run."]  # fmt: skip
    return "\n".join(lines) + "\n"


_SHORT = {
    Status.FAILED: "f", Status.UNEXPECTED_PASS: "f", Status.DEVIATION: "d", Status.SKIPPED: "s", Status.BLOCKED: "b",
    Status.BROKEN: "b", Status.NOT_RUN: "n",
}  # fmt: skip


def _cell(report: Report, chapter: str) -> str:
    statuses = [r.status for r in report.results if r.id.startswith(f"{chapter}-")]
    apply = [status for status in statuses if status is not Status.NOT_APPLICABLE]
    passed = sum(status is Status.PASSED for status in apply)
    rest = Counter(_SHORT[status] for status in apply if status in _SHORT)
    return " ".join([f"{passed}/{len(apply)}", *(f"{count}{letter}" for letter, count in sorted(rest.items()))])
