"""The command line: what it runs, prints and returns."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from conformance_tests.checks import Check, load_suite
from conformance_tests.command_line import main
from conformance_tests.report import read_report

no_spec = "it is about the program that runs the suite"

REFERENCE = ["--harness", "conformance_tests.mutants.breaking:HurryingHarness", "--quiet"]
MUTANT = """
    from conformance_tests.mutants.stream import CountsFromOne
    from conformance_tests import Harness
    from conformance_tests.mutants.breaking import HurryingHarness

    class CountingHarness(HurryingHarness):
        def __init__(self):
            super().__init__(adapter_class=CountsFromOne)

    class BrokenHarness(HurryingHarness):
        def adapter(self):
            raise OSError("no engine here")

    class UnstartableHarness(HurryingHarness):
        def start(self):
            raise OSError("no engine here")

    class UnmakeableHarness(HurryingHarness):
        def __init__(self):
            raise OSError("no engine here")

    class UnfinishedHarness(Harness):
        pass
"""


@pytest.fixture
def harnesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "stranger.py").write_text(textwrap.dedent(MUTANT), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "stranger"


def test_a_conformant_adapter_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*REFERENCE, "--report", str(tmp_path)]) == 0

    assert "# reference: conformant" in capsys.readouterr().out
    assert read_report(tmp_path / "report.json").verdict == "conformant"
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "junit.xml"}


def test_an_adapter_that_fails_is_1_and_the_requirement_is_named(
    harnesses: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--harness", f"{harnesses}:CountingHarness"]) == 1

    output = capsys.readouterr().out
    assert "FAIL  ORCH-3059-003" in output
    assert "token number 0 of the first task has the index 1" in output


def test_a_part_of_the_suite_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*REFERENCE, "--only", "ORCH-3059-00"]) == 2

    assert "incomplete" in capsys.readouterr().out


def test_a_deleted_check_is_2_and_shows_as_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = load_suite()
    remaining: dict[str, Check] = {id: check for id, check in suite.items() if id != "ORCH-3060-001"}
    monkeypatch.setattr("conformance_tests.command_line.load_suite", lambda: remaining)

    assert main([*REFERENCE, "--report", str(tmp_path)]) == 2

    statuses = {result.id: result.status for result in read_report(tmp_path / "report.json").results}
    assert [id for id, status in statuses.items() if status == "not_run"] == ["ORCH-3060-001"]
    assert "Not run: ORCH-3060-001" in capsys.readouterr().out


@pytest.mark.parametrize("harness", ["BrokenHarness", "UnstartableHarness"])
def test_a_harness_that_raises_is_3(harnesses: str, harness: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--harness", f"{harnesses}:{harness}", "--quiet", "--only", "ORCH-3059"]) == 3

    assert "OSError: no engine here" in capsys.readouterr().out


def test_a_harness_that_cannot_be_made_is_3(harnesses: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--harness", f"{harnesses}:UnmakeableHarness"]) == 3

    assert "the harness could not be made: OSError: no engine here" in capsys.readouterr().err


def test_a_harness_whose_module_breaks_is_3(harnesses: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "breaking_stranger.py").write_text("1 / 0\n", encoding="utf-8")

    assert main(["--harness", "breaking_stranger:Harness"]) == 3

    assert "importing breaking_stranger raised ZeroDivisionError" in capsys.readouterr().err


def test_a_harness_that_lacks_what_is_required_is_4_and_named(
    harnesses: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--harness", f"{harnesses}:UnfinishedHarness"]) == 4

    complaint = capsys.readouterr().err
    assert "the harness cannot be made: " in complaint
    assert "'adapter'" in complaint or "method adapter" in complaint


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "name an adapter"),
        (["--adapter", "no-such-adapter"], "no adapter named 'no-such-adapter'"),
        (["--adapter", "mock", "--option", "delay"], "write it as name=value"),
        (["--adapter", "mock", "--option", "no_such_option=1"], "cannot be made with these options"),
        (["--adapter", "mock", "--only", "ORCH-9999"], "no requirement of the suite begins so"),
        (["--adapter", "mock", "--harness", "a:B"], "not allowed with argument"),
        (["--harness", "no_such_module:Harness"], "no_such_module"),
        (["--harness", "conformance_tests.report:Report"], "is no subclass"),
        (["--adapter", "mock", "--no-such-flag"], "unrecognized arguments"),
        (["--explain", "ORCH-1"], "is no requirement"),
        (["--adapter", "mock", "--deviations", "no-such-file.toml"], "cannot be read"),
        (["compare", "no-such-file.json", "other.json"], "no-such-file.json"),
    ],
)
def test_wrong_usage_is_4_and_says_what_is_wrong(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 4

    assert complaint in capsys.readouterr().err


def test_the_requirements_are_listed_without_running_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "ORCH-3060"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("ORCH-3060-") for line in lines)


def test_a_requirement_is_explained_with_its_reason_and_its_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--explain", "ORCH-3059-003"]) == 0

    output = capsys.readouterr().out
    assert "MUST count 0, 1, 2" in output
    assert "Why: " in output
    assert "test_token_indices_count_from_zero_without_a_gap" in output


def test_an_expected_failure_is_a_deviation(harnesses: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deviations = tmp_path / "deviations.toml"
    deviations.write_text('[deviations]\n"ORCH-3059-003" = "fixed in 2.0"\n', encoding="utf-8")

    assert main(["--harness", f"{harnesses}:CountingHarness", "--quiet", "--deviations", str(deviations)]) == 0

    output = capsys.readouterr().out
    assert "conformant with deviations" in output
    assert "fixed in 2.0" in output


def test_an_unexpected_pass_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deviations = tmp_path / "deviations.toml"
    deviations.write_text('[deviations]\n"ORCH-3059-003" = "fixed in 2.0"\n', encoding="utf-8")

    assert main([*REFERENCE, "--deviations", str(deviations)]) == 1

    assert "take it out of the deviations file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, complaint",
    [
        ('[deviations]\n"ORCH-1-1" = "x"\n', "is no requirement"),
        ('[deviations]\n"ORCH-3059-003" = ""\n', "needs its reason"),
        ('[deviation]\n"ORCH-3059-003" = "x"\n', "needs one table"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_deviations_file_that_says_nothing_useful_is_refused(
    content: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deviations = tmp_path / "deviations.toml"
    deviations.write_text(content, encoding="utf-8")

    assert main([*REFERENCE, "--deviations", str(deviations)]) == 4

    assert complaint in capsys.readouterr().err


def test_strict_counts_what_the_harness_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--adapter", "mock", "--quiet", "--strict", "--only", "ORCH-3061"]) == 2

    assert "strict" in capsys.readouterr().out
