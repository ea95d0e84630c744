"""The suite inside somebody else's pytest run, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conformance_tests.report import Report, read_report

no_spec = "it is about how pytest runs the suite"

TWO_LINES_AND_A_FIXTURE = """
    import pytest
    from conformance_tests.mutants.breaking import HurryingHarness
    from conformance_tests.suite import *

    @pytest.fixture(scope="session")
    def conformance_harness():
        return HurryingHarness()
"""

FOREIGN_SETTINGS = """
    [pytest]
    python_files = check_*.py
    python_functions = it_*
    python_classes = Describe*
    filterwarnings = error
    addopts = --strict-markers --strict-config --import-mode=importlib -p no:cacheprovider
    xfail_strict = true
"""

FOREIGN_CONFTEST = """
    import pytest

    def pytest_addoption(parser):
        parser.addoption("--adapter", help="mine")
        parser.addoption("--seed", help="mine")

    @pytest.fixture(params=["asyncio", "trio"], autouse=True)
    def anyio_backend(request):
        return request.param

    @pytest.fixture
    def harness():
        raise RuntimeError("mine")
"""


class Foreign:
    """A repository of somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(text), encoding="utf-8")

    def pytest(
        self, *arguments: str, without_report: bool = False, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        report = [] if without_report else ["--conformance-report=report"]
        return subprocess.run(
            # Hypothesis comes along in our environment only, and takes a quarter of a second each time.
            [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", *report, *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=240, env=kept | dict(environment or {}),
        )  # fmt: skip

    def report(self) -> Report:
        return read_report(self.folder / "report" / "report.json")


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path)


def test_two_lines_and_a_fixture_run_the_whole_suite(foreign: Foreign) -> None:
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE)

    ran = foreign.pytest("--junitxml=junit.xml")

    assert ran.returncode == 0, ran.stdout
    assert foreign.report().verdict == "conformant"
    assert "# reference: conformant" in ran.stdout
    properties = ElementTree.parse(foreign.folder / "junit.xml").iterfind(".//testcase/properties/property")
    assert sum(p.get("name") == "requirement" for p in properties) == len(foreign.report().results)


@pytest.mark.long
def test_the_suite_runs_by_its_package_name(foreign: Foreign) -> None:
    ran = foreign.pytest("--pyargs", "conformance_tests.suite", "--adapter", "mock")

    assert ran.returncode == 0, ran.stdout
    assert (foreign.report().under.adapter, foreign.report().verdict) == ("mock", "conformant")


@pytest.mark.long
def test_foreign_settings_have_no_say_in_it(foreign: Foreign) -> None:
    foreign.write("pytest.ini", FOREIGN_SETTINGS)

    ran = foreign.pytest("--pyargs", "conformance_tests.suite", "--adapter", "mock", "-p", "no:anyio")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert foreign.report().verdict == "conformant"


@pytest.mark.long
def test_foreign_options_and_fixtures_of_the_same_names_are_left_alone(foreign: Foreign) -> None:
    foreign.write("conftest.py", FOREIGN_CONFTEST.replace(", autouse=True", ""))
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE)

    ran = foreign.pytest("--adapter=theirs", "--seed=theirs")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert foreign.report().verdict == "conformant"


@pytest.mark.long
def test_a_deselected_test_is_not_run_and_the_verdict_incomplete(foreign: Foreign) -> None:
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE)

    ran = foreign.pytest("-k", "not cancelled_task_leaves")

    assert ran.returncode == 2, ran.stdout
    assert foreign.report().verdict == "incomplete"
    assert [r.id for r in foreign.report().results if r.status == "not_run"] == ["ORCH-3060-014"]


@pytest.mark.long
def test_a_skipped_proof_is_incomplete_for_pytest_too(foreign: Foreign) -> None:
    skips = """
    class Skips(HurryingHarness):
        def images_task(self):
            from conformance_tests import Skipped
            raise Skipped("there is no picture")
"""
    foreign.write("test_conformance.py", (TWO_LINES_AND_A_FIXTURE + skips).replace("HurryingHarness()", "Skips()"))

    ran = foreign.pytest()

    assert ran.returncode == 2, ran.stdout
    assert (foreign.report().verdict, foreign.report().unproved) == ("incomplete", ("images",))
    assert "Declared and not proved: images (ORCH-3059-025)" in ran.stdout


@pytest.mark.long
def test_a_failure_beside_the_suite_keeps_the_exit_status_of_pytest(foreign: Foreign) -> None:
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE)
    foreign.write("test_theirs.py", "def test_theirs():\n    assert not 'mine'\n")

    ran = foreign.pytest()

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert foreign.report().verdict == "conformant"


@pytest.mark.long
def test_an_overridden_test_fails_the_run(foreign: Foreign) -> None:
    override = "\n    def test_a_cancelled_task_leaves_the_engine(conformance):\n        pass\n"
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE + override)

    ran = foreign.pytest()

    assert ran.returncode == 2
    assert foreign.report().verdict == "incomplete"
    assert "missing or overridden in it (ORCH-3060-014)" in ran.stdout


@pytest.mark.long
def test_a_test_that_poses_as_one_of_the_suite_does_not_count(foreign: Foreign) -> None:
    override = """
    def _pose(conformance):
        pass

    _pose.__conformance_check__ = test_a_cancelled_task_leaves_the_engine.__conformance_check__._replace()
    test_a_cancelled_task_leaves_the_engine = _pose
"""
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE + override)

    ran = foreign.pytest()

    assert ran.returncode == 2
    assert foreign.report().verdict == "incomplete"


@pytest.mark.long
def test_a_deleted_test_fails_the_run(foreign: Foreign) -> None:
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE + "\n    del test_a_stream_begins_with_started\n")

    ran = foreign.pytest()

    assert ran.returncode == 2
    assert [r.id for r in foreign.report().results if r.status == "not_run"] == ["ORCH-3059-001"]


@pytest.mark.long
def test_several_processes_of_xdist_make_one_report(foreign: Foreign) -> None:
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE)

    ran = foreign.pytest("-p", "xdist", "-n", "2")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert foreign.report().verdict == "conformant"
    assert "# reference: conformant" in ran.stdout


@pytest.mark.long
def test_an_overridden_test_fails_the_run_of_several_processes_too(foreign: Foreign) -> None:
    override = "\n    def test_a_cancelled_task_leaves_the_engine(conformance):\n        pass\n"
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE + override)

    ran = foreign.pytest("-p", "xdist", "-n", "2", "-k", "engine")

    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "missing or overridden in it (ORCH-3060-014)" in ran.stdout


def test_a_failure_shows_the_requirement_and_no_traceback_of_ours(foreign: Foreign) -> None:
    mutant = TWO_LINES_AND_A_FIXTURE.replace("HurryingHarness()", "HurryingHarness(adapter_class=CountsFromOne)")
    imported = "\n    from conformance_tests.mutants.stream import CountsFromOne"
    foreign.write("test_conformance.py", imported + mutant)

    ran = foreign.pytest()

    assert ran.returncode == 1
    assert "ORCH-3059-003 failed: token number 0 of the first task has the index 1" in ran.stdout
    assert "The indices of the tokens MUST count 0, 1, 2" in ran.stdout
    assert "Traceback" not in ran.stdout
    assert foreign.report().counts["failed"] == 1


@pytest.mark.long
def test_deviations_are_expected_failures(foreign: Foreign) -> None:
    foreign.write("deviations.toml", '[deviations]\n"ORCH-3059-003" = "known"\n"ORCH-3059-001" = "not true"\n')
    mutant = TWO_LINES_AND_A_FIXTURE.replace("HurryingHarness()", "HurryingHarness(adapter_class=CountsFromOne)")
    imported = "\n    from conformance_tests.mutants.stream import CountsFromOne"
    foreign.write("test_conformance.py", imported + mutant)

    ran = foreign.pytest("--conformance-deviations=deviations.toml")

    assert ran.returncode == 1
    statuses = {result.id: result.status for result in foreign.report().results}
    assert (statuses["ORCH-3059-003"], statuses["ORCH-3059-001"]) == ("deviation", "unexpected_pass")


def test_a_harness_of_function_scope_is_fine(foreign: Foreign) -> None:
    text = TWO_LINES_AND_A_FIXTURE.replace('(scope="session")', "")
    foreign.write("test_conformance.py", text)

    ran = foreign.pytest("-k", "stream or token")

    assert ran.returncode == 2, ran.stdout
    assert foreign.report().counts.keys() <= {"passed", "not_applicable", "not_run"}


@pytest.mark.long
def test_two_adapters_in_one_run_have_a_report_each(foreign: Foreign) -> None:
    foreign.write("test_reference.py", TWO_LINES_AND_A_FIXTURE)
    other = TWO_LINES_AND_A_FIXTURE.replace("conformance_tests.mutants.breaking", "conformance_tests.mock_harness")
    foreign.write("test_mock.py", other.replace("HurryingHarness", "MockHarness"))

    ran = foreign.pytest()

    assert ran.returncode == 0, ran.stdout
    for name in ("reference", "mock"):
        assert read_report(foreign.folder / "report" / name / "report.json").verdict == "conformant"


def test_without_plugins_the_run_says_once_what_to_add(foreign: Foreign) -> None:
    foreign.write("test_conformance.py", TWO_LINES_AND_A_FIXTURE)
    without = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    ran = foreign.pytest(without_report=True, environment=without)

    assert ran.returncode == pytest.ExitCode.INTERRUPTED
    assert "add -p conformance_tests.pytest_plugin" in ran.stdout
    assert "1 error" in ran.stdout

    added = foreign.pytest("-p", "conformance_tests.pytest_plugin", "-k", "started_is_said_once", environment=without)

    assert "1 passed" in added.stdout


def test_without_an_adapter_the_run_says_what_to_do(foreign: Foreign) -> None:
    ran = foreign.pytest("--pyargs", "conformance_tests.suite")

    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "name it with --adapter NAME" in ran.stdout + ran.stderr


def test_a_run_that_does_not_use_the_suite_imports_nothing_of_it(foreign: Foreign) -> None:
    foreign.write(
        "test_theirs.py",
        """
        import sys

        def test_modules():
            ours = {"adapter_api", "conformance_tests.harness", "conformance_tests.checks"}
            assert not (ours | {"pydantic", "anyio", "msgspec"}) & set(sys.modules)
        """,
    )

    ran = foreign.pytest("-p", "no:anyio", "-p", "no:worker_adapter_triton")

    assert ran.returncode == 0, ran.stdout
    assert "conformance" not in ran.stdout.partition("test session starts")[2].replace("plugins:", "")


def test_nobody_elses_option_is_taken(foreign: Foreign) -> None:
    foreign.write("conftest.py", FOREIGN_CONFTEST)
    foreign.write(
        "test_theirs.py", "def test_option(pytestconfig):\n    assert pytestconfig.getoption('adapter') == 'x'\n"
    )

    ran = foreign.pytest("--adapter=x")

    assert ran.returncode == 0, ran.stdout + ran.stderr
