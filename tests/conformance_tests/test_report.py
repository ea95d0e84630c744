"""Reports and what is made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest

from adapter_api import Capability
from conformance_tests.catalog import load
from conformance_tests.command_line import MATRIX_BEGINS, MATRIX_ENDS, main
from conformance_tests.comparison import compare, render_matrix
from conformance_tests.junit import render_junit
from conformance_tests.markdown import badge, render
from conformance_tests.outcome import Outcome, Status
from conformance_tests.proofs import NOT_PROVABLE, PROOFS
from conformance_tests.report import SCHEMA, Report, Under, encode_report, make_report, read_report, report_schema

no_spec = "it is about the reports of the suite"

SHOULD = next(r.id for r in load().requirements if r.verify == "conformance" and r.keyword == "SHOULD")


def report_of(
    *, changes: Mapping[str, Status] | None = None, deviations: Mapping[str, str] | None = None, strict: bool = False
) -> Report:
    """Return a report in which everything passed but for `changes`."""
    outcomes = [
        Outcome(requirement=r.id, status=(changes or {}).get(r.id, Status.PASSED), reason="because", check="m::test_it")
        for r in load().requirements
    ]
    return make_report(
        [outcome for outcome in outcomes if outcome.status is not Status.NOT_RUN],
        catalog=load(),
        under=Under(adapter="acme", engine="acme", engine_version="1.2", capabilities=("stop", "text")),
        deviations=deviations or {},
        started_at=time.time(),
        duration_s=1.5,
        seed=0,
        strict=strict,
    )


@pytest.mark.parametrize(
    "changes, strict, verdict, exit_code",
    [
        ({}, False, "conformant", 0),
        ({"ORCH-3059-001": Status.FAILED}, False, "not conformant", 1),
        ({"ORCH-3059-001": Status.FAILED, "ORCH-3059-002": Status.BROKEN}, False, "not conformant", 1),
        ({"ORCH-3059-001": Status.NOT_RUN}, False, "incomplete", 2),
        ({"ORCH-3059-001": Status.BLOCKED}, False, "incomplete", 2),
        ({"ORCH-3059-001": Status.BROKEN}, False, "incomplete", 3),
        ({"ORCH-3059-001": Status.SKIPPED}, False, "conformant", 0),
        ({"ORCH-3059-001": Status.SKIPPED}, True, "incomplete", 2),
        # The proof of a declared capability, and of one that is not.
        ({"ORCH-3059-022": Status.SKIPPED}, False, "incomplete", 2),
        ({"ORCH-3059-022": Status.NOT_APPLICABLE}, False, "incomplete", 2),
        ({"ORCH-3059-022": Status.FAILED}, False, "not conformant", 1),
        ({"ORCH-3059-044": Status.SKIPPED}, False, "conformant", 0),
        ({"ORCH-3059-001": Status.NOT_APPLICABLE}, True, "conformant", 0),
        ({SHOULD: Status.FAILED}, False, "conformant", 0),
        ({SHOULD: Status.FAILED}, True, "not conformant", 1),
    ],
)
def test_the_verdict_follows_from_the_whole_catalog(
    changes: dict[str, Status], strict: bool, verdict: str, exit_code: int
) -> None:
    report = report_of(changes=changes, strict=strict)

    assert (report.verdict, report.exit_code) == (verdict, exit_code)


def test_a_proof_that_fails_as_the_deviations_file_says_is_a_deviation() -> None:
    report = report_of(changes={"ORCH-3059-022": Status.FAILED}, deviations={"ORCH-3059-022": "known"})

    assert (report.verdict, report.unproved) == ("conformant with deviations", ())


def test_every_capability_has_a_proof_or_a_reason_why_not() -> None:
    of_suite = {r.id: r.when for r in load().requirements if r.verify == "conformance"}

    assert PROOFS.keys() | NOT_PROVABLE.keys() == set(Capability)
    assert not PROOFS.keys() & NOT_PROVABLE.keys()
    assert set(PROOFS.values()) <= of_suite.keys()


def test_a_report_names_what_no_check_can_prove() -> None:
    capabilities = ("shared_memory", "text")

    report = make_report(
        [Outcome(requirement=id, status=Status.PASSED) for id in load().ids],
        catalog=load(), under=Under(adapter="a", capabilities=capabilities), deviations={}, started_at=0.0,
        duration_s=0.0, seed=0, strict=False,
    )  # fmt: skip

    assert (report.verdict, report.proved, report.not_provable) == ("conformant", ("text",), ("shared_memory",))
    assert "not provable: shared_memory" in render(report).splitlines()[0]


def test_a_rerun_that_passes_does_not_hide_a_failure() -> None:
    outcomes = [Outcome(requirement="ORCH-3059-001", status=status) for status in (Status.FAILED, Status.PASSED)]

    report = make_report(
        outcomes, catalog=load(), under=Under(adapter="a"), deviations={}, started_at=0.0, duration_s=0.0, seed=0,
        strict=False,
    )  # fmt: skip

    assert report.verdict == "not conformant"


def test_the_published_schema_is_fresh() -> None:
    assert SCHEMA.read_bytes() == report_schema(), "run `python -m conformance_tests.report` and commit the result"


def test_a_report_conforms_to_the_published_schema() -> None:
    report = report_of(changes={"ORCH-3059-001": Status.FAILED, "ORCH-3059-002": Status.SKIPPED})

    jsonschema.validate(json.loads(encode_report(report)), json.loads(SCHEMA.read_bytes()))


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = report_of(changes={"ORCH-3059-001": Status.BLOCKED})
    (tmp_path / "report.json").write_bytes(encode_report(report))

    assert read_report(tmp_path / "report.json") == report


def test_a_report_of_another_format_is_refused(tmp_path: Path) -> None:
    text = encode_report(report_of()).replace(b'"format": "1"', b'"format": "2"')
    (tmp_path / "report.json").write_bytes(text)

    with pytest.raises(ValueError, match="no conformance report of format 1"):
        read_report(tmp_path / "report.json")


def test_the_markdown_report_fits_a_screen_and_names_what_failed() -> None:
    changes = dict.fromkeys(list(load().ids)[:40], Status.SKIPPED) | {"ORCH-3059-001": Status.FAILED}

    text = render(report_of(changes=changes))

    assert "**ORCH-3059-001**" in text
    assert len(text.splitlines()) <= 60


def test_junit_carries_the_ids_as_properties() -> None:
    report = report_of(changes={"ORCH-3059-001": Status.FAILED, "ORCH-3059-002": Status.SKIPPED})

    suite = ElementTree.fromstring(render_junit(report)).find("testsuite")

    assert suite is not None
    ids = [p.get("value") for p in suite.iterfind("testcase/properties/property") if p.get("name") == "requirement"]
    assert ids == [result.id for result in report.results]
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
    assert len(suite.findall("testcase/failure")) == 1


def test_junit_holds_texts_that_xml_cannot() -> None:
    report = report_of()
    first = msgspec.structs.replace(report.results[0], status=Status.FAILED, reason="a\x00b\ud800\x1b[31m <&>")
    report = msgspec.structs.replace(report, results=(first, *report.results[1:]))

    failure = ElementTree.fromstring(render_junit(report)).find("testsuite/testcase/failure")

    assert failure is not None
    assert "<&>" in (failure.get("message") or "")


def test_the_badge_is_one_line_that_says_the_verdict() -> None:
    line = badge(report_of(changes={"ORCH-3059-001": Status.FAILED}))

    assert "\n" not in line
    assert "not conformant" in line
    assert "red" in line


def test_comparing_finds_what_got_worse_and_what_got_better() -> None:
    before = report_of(changes={"ORCH-3059-001": Status.FAILED, "ORCH-3059-003": Status.SKIPPED})
    after = report_of(changes={"ORCH-3059-002": Status.FAILED, "ORCH-3059-003": Status.PASSED})

    changes = {change.id: change.is_regression for change in compare(before, after)}

    assert changes == {"ORCH-3059-001": False, "ORCH-3059-002": True, "ORCH-3059-003": False}


def test_a_test_that_is_no_longer_run_is_a_regression() -> None:
    before, after = report_of(), report_of(changes={"ORCH-3059-001": Status.NOT_RUN})

    assert [change.is_regression for change in compare(before, after)] == [True]


def test_the_compare_command_returns_1_for_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    paths[0].write_bytes(encode_report(report_of()))
    paths[1].write_bytes(encode_report(report_of(changes={"ORCH-3059-001": Status.FAILED})))

    assert main(["compare", *map(str, paths)]) == 1
    assert main(["compare", *map(str, reversed(paths))]) == 0
    assert "| ORCH-3059-001 | passed | failed | regression |" in capsys.readouterr().out


def test_the_matrix_has_a_row_for_each_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_bytes(encode_report(report_of()))
    (tmp_path / "b.json").write_bytes(encode_report(report_of(changes={"ORCH-3059-001": Status.FAILED})))

    assert main(["matrix", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| acme")]
    assert len(rows) == 2
    assert "1f" in rows[1]
    assert "acme 1.2" in rows[0]


def test_the_matrix_is_put_between_the_marks_of_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_bytes(encode_report(report_of()))
    document = tmp_path / "page.md"
    document.write_text(f"before\n{MATRIX_BEGINS}\nold\n{MATRIX_ENDS}\nafter\n", encoding="utf-8")

    assert main(["matrix", str(tmp_path / "a.json"), "--into", str(document)]) == 0
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| acme (asyncio) | acme 1.2 |" in text
    assert "old" not in text

    document.write_text("no marks", encoding="utf-8")
    assert main(["matrix", str(tmp_path / "a.json"), "--into", str(document)]) == 4
    assert "has no lines" in capsys.readouterr().err


def test_the_matrix_leaves_out_what_does_not_apply() -> None:
    ids = [r.id for r in load().requirements if r.id.startswith("ORCH-3061") and r.verify == "conformance"]

    table = render_matrix([report_of(changes=dict.fromkeys(ids, Status.NOT_APPLICABLE))])

    assert "| 0/0 |" in table
