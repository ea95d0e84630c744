"""What the pytest plugin does once the suite is in use."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from adapter_api import AdapterError, load_plugins
from conformance_tests.catalog import load
from conformance_tests.checks import SUITE, Check, check_of, load_suite
from conformance_tests.command_line import describe, write_reports
from conformance_tests.deviations import DeviationsError, expected, read_deviations
from conformance_tests.execution import DEFAULT_TIMEOUT_S, Session
from conformance_tests.harness import Harness
from conformance_tests.markdown import render
from conformance_tests.outcome import Outcome, Status
from conformance_tests.plugin_harness import harness_for
from conformance_tests.report import EXIT_CODES, Report, Under, make_report

MOST_OPEN = 4
"""How many harnesses stay started: a fixture of function scope makes one for every test."""

_SEVERITY = (0, 2, 3, 1)
"""Exit codes of verdicts, the worst last: an adapter that is known to be wrong outweighs one that is not known."""

_SKIPS = (Status.SKIPPED, Status.NOT_APPLICABLE)


class SuiteModule(pytest.Module):
    """A file of the suite, imported under its own name whatever pytest's import mode is."""

    def _getobj(self) -> ModuleType:
        return importlib.import_module(f"{SUITE}.{self.path.stem}")


class Heard(msgspec.Struct, frozen=True):
    """What a test says of itself in its report's properties, which also reach the main process of pytest-xdist."""

    under: Under
    outcome: Outcome


class HarnessRun:
    """Runs one test's check; the value of the fixture `conformance`."""

    def __init__(self, run: ConformanceRun, session: Session, item: pytest.Item) -> None:
        self._run = run
        self._session = session
        self._item = item

    def run(self, check: Check) -> None:
        """Run the check and end the test as it ended."""
        outcome = self._session.run(check, self._run.requirements.get(check.requirement))
        if check_of(getattr(self._item, "obj", None)) is check:
            self._item.user_properties.append(("requirement", check.requirement))
            heard = Heard(describe(self._session), outcome)
            self._item.user_properties.append(("conformance", msgspec.json.encode(heard).decode()))
        judged = expected(outcome, self._run.deviations)
        told = f"{check.requirement} {judged.status}: {judged.reason}"
        if judged.status in _SKIPS:
            pytest.skip(told)
        if judged.status is Status.DEVIATION:
            pytest.xfail(told)
        if judged.status is not Status.PASSED:
            text = self._run.requirements[check.requirement].text if check.requirement in self._run.requirements else ""
            pytest.fail(f"{told}\n\n  {text}\n  {check.steps}\n  ({check.name})", pytrace=False)


class ConformanceRun:
    """One pytest run that uses the suite: possibly on several adapters, in several test modules."""

    def __init__(self, config: pytest.Config) -> None:
        load_suite()
        self.catalog = load()
        self.requirements = {requirement.id: requirement for requirement in self.catalog.requirements}
        self.deviations = self._read_deviations(config)
        self._config = config
        self._began = time.time()
        self._sessions: dict[int, Session] = {}
        self._heard: list[Heard] = []
        self._present: set[str] = set()
        self._left_out: set[str] = set()
        self._reports: list[Report] = []
        self._others_failed = False

    # -- collection ---------------------------------------------------------------------------------------------------

    def collected(self, items: list[pytest.Item]) -> None:
        """Note which checks are there, and drop those that other settings made pytest collect a second time."""
        seen: set[tuple[object, str]] = set()
        for item in list(items):
            check = check_of(getattr(item, "obj", None))
            if check is None:
                continue
            key = (item.path, check.requirement)
            if key in seen:
                items.remove(item)
            seen.add(key)
            self._present.add(check.requirement)

    def deselected(self, item: pytest.Item) -> None:
        """Note a check that the user left out."""
        check = check_of(getattr(item, "obj", None))
        if check is not None:
            self._left_out.add(check.requirement)

    def collected_elsewhere(self, present: Iterable[str], left_out: Iterable[str]) -> None:
        """Note the same of another process of pytest-xdist, where the main one collects nothing."""
        self._present.update(present)
        self._left_out.update(left_out)

    # -- harnesses ----------------------------------------------------------------------------------------------------

    def default_harness(self) -> Harness:
        """Return the harness that the command line names."""
        option = self._config.option
        if option.conformance_adapter is None:
            pytest.exit(
                "the conformance suite needs an adapter: name it with --adapter NAME (or --conformance-adapter), "
                "or override the fixture conformance_harness in your test module",
                returncode=pytest.ExitCode.USAGE_ERROR,
            )
        pairs = (text.partition("=") for text in option.conformance_options)
        try:
            record = load_plugins().adapter(option.conformance_adapter)
            return harness_for(record, {name: value for name, _, value in pairs})
        except (AdapterError, TypeError) as exc:
            pytest.exit(f"conformance: {exc}", returncode=pytest.ExitCode.USAGE_ERROR)

    def on(self, harness: Harness, item: pytest.Item) -> HarnessRun:
        """Return the run of one test on a harness, which is started once however often it is given."""
        session = self._sessions.get(id(harness))
        if session is None:
            timeout_s = self._config.option.conformance_timeout or DEFAULT_TIMEOUT_S
            session = Session(harness, seed=self._config.option.conformance_seed, timeout_s=timeout_s)
            self._sessions[id(harness)] = session
            for key in list(self._sessions)[:-MOST_OPEN]:
                self._sessions.pop(key).close()
        return HarnessRun(self, session, item)

    # -- results ------------------------------------------------------------------------------------------------------

    def failed(self, report: pytest.TestReport) -> None:
        """Note a failure that is none of the suite's, or none of its verdict's: it keeps pytest's exit status."""
        self._others_failed = True

    def heard(self, report: pytest.TestReport, said: str) -> None:
        """Take what a test says of itself, in this process or in another of pytest-xdist."""
        if report.when == "call":
            self._heard.append(msgspec.json.decode(said, type=Heard))

    def finish(self, session: pytest.Session) -> None:
        """Stop the harnesses, write the reports, and fail the run when tests of the suite are missing from it."""
        for running in self._sessions.values():
            running.close()
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["conformance"] = {"present": sorted(self._present), "left_out": sorted(self._left_out)}
            return
        self._reports = self._make_reports()
        self._write()
        verdict = max((report.exit_code for report in self._reports), key=_SEVERITY.index, default=0)
        if self._missing() and verdict == 0:
            verdict = EXIT_CODES["incomplete"]
        own = session.exitstatus == pytest.ExitCode.TESTS_FAILED and not self._others_failed
        if self._reports and (own or session.exitstatus == pytest.ExitCode.OK):
            session.exitstatus = verdict

    def summarise(self, terminal: Any) -> None:
        """Print the reports."""
        for report in self._reports:
            terminal.section(f"conformance of {report.under.adapter}")
            terminal.write_line(render(report).rstrip())
        missing = self._missing()
        if missing and self._reports:
            terminal.write_line(
                f"\nThe run is incomplete: {len(missing)} tests of the suite are missing or overridden in it "
                f"({', '.join(missing[:5])}{', …' if len(missing) > 5 else ''})."
            )

    def _missing(self) -> list[str]:
        """Return what was neither collected nor left out by the user's own choice."""
        chosen = any("::" in str(argument) for argument in self._config.invocation_params.args)
        if chosen or not self._present:
            return []
        wanted = {r.id for r in self.catalog.requirements if r.verify == "conformance"}
        return sorted(wanted - self._present - self._left_out)

    def _make_reports(self) -> list[Report]:
        option = self._config.option
        by_name: dict[str, list[Heard]] = {}
        for heard in self._heard:
            by_name.setdefault(heard.under.adapter, []).append(heard)
        return [
            make_report(
                [heard.outcome for heard in those],
                catalog=self.catalog,
                # The last one knows most: before the first check that asks, nothing is known of the engine.
                under=those[-1].under,
                deviations=self.deviations,
                started_at=self._began,
                duration_s=time.time() - self._began,
                seed=option.conformance_seed,
                strict=option.conformance_strict,
            )
            for those in by_name.values()
        ]

    def _write(self) -> None:
        folder = self._config.option.conformance_report
        if folder is None:
            return
        for report in self._reports:
            several = len(self._reports) > 1
            write_reports(report, Path(folder) / report.under.adapter if several else Path(folder))

    def _read_deviations(self, config: pytest.Config) -> dict[str, str]:
        path = config.option.conformance_deviations
        try:
            return {} if path is None else read_deviations(Path(path), self.catalog)
        except DeviationsError as exc:
            pytest.exit(f"conformance: {exc}", returncode=pytest.ExitCode.USAGE_ERROR)
