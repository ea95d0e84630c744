"""Requirements and tests know each other, and the check that says so would notice if they did not."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_specs import find_problems, named_ids, stated_reason

from conformance_tests.catalog import Catalog, read_specs
from tests.project.repository import ROOT

BY_TEST, BY_SUITE = "ORCH-3054-008", "ORCH-3054-001"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """Two requirements of this project: one for its own tests, one for the suite."""
    whole, _ = read_specs(ROOT / "specs")
    assert (whole[BY_TEST].verify, whole[BY_SUITE].verify) == ("test", "conformance")
    return Catalog(chapters=(), requirements=(whole[BY_SUITE], whole[BY_TEST]))


def project(folder: Path, *, test: str = "", suite: str = "", awaiting: str = "") -> Path:
    for path, text in (
        ("tests/adapter_api/test_module.py", test),
        ("conformance_tests/suite/registry.py", suite),
        ("specs/awaiting.txt", awaiting),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def marked(*ids: str) -> str:
    return "".join(f'@pytest.mark.spec("{id}")\ndef test_{n}() -> None: ...\n' for n, id in enumerate(ids))


def checked(*ids: str) -> str:
    return "".join(f'@requirement("{id}")\nasync def test_{n}(subject) -> None: ...\n' for n, id in enumerate(ids))


def test_nothing_is_wrong_when_each_requirement_is_named_where_it_is_verified(tmp_path: Path, catalog: Catalog) -> None:
    assert find_problems(project(tmp_path, test=marked(BY_TEST), suite=checked(BY_SUITE)), catalog) == []


def test_a_requirement_for_the_suite_may_be_tested_by_our_own_tests(tmp_path: Path, catalog: Catalog) -> None:
    assert find_problems(project(tmp_path, test=marked(BY_TEST, BY_SUITE)), catalog) == []


def test_a_requirement_for_our_tests_is_not_tested_by_the_suite(tmp_path: Path, catalog: Catalog) -> None:
    (problem,) = find_problems(project(tmp_path, test=marked(BY_SUITE), suite=checked(BY_TEST)), catalog)

    assert f"{BY_TEST} has no test" in problem


def test_a_requirement_without_a_test_is_found_unless_it_is_awaited(tmp_path: Path, catalog: Catalog) -> None:
    (problem,) = find_problems(project(tmp_path, test=marked(BY_TEST)), catalog)
    awaited = find_problems(project(tmp_path, test=marked(BY_TEST), awaiting=f"# later\n{BY_SUITE}  # soon\n"), catalog)

    assert f"{BY_SUITE} has no test" in problem
    assert awaited == []


def test_an_awaited_requirement_that_has_a_test_is_found(tmp_path: Path, catalog: Catalog) -> None:
    (problem,) = find_problems(project(tmp_path, test=marked(BY_TEST, BY_SUITE), awaiting=BY_TEST), catalog)

    assert f"{BY_TEST} has a test by now" in problem


def test_an_id_that_does_not_exist_is_found_with_its_place(tmp_path: Path, catalog: Catalog) -> None:
    (problem,) = find_problems(project(tmp_path, test=marked(BY_TEST, BY_SUITE, "ORCH-3054-999")), catalog)

    assert problem == "tests/adapter_api/test_module.py:5: ORCH-3054-999 is no requirement of specs/"


def test_a_module_that_names_no_requirement_has_to_say_why(tmp_path: Path, catalog: Catalog) -> None:
    silent = project(tmp_path, test="def test_x() -> None: ...\n", suite=checked(BY_SUITE), awaiting=BY_TEST)
    (problem,) = find_problems(silent, catalog)
    said = find_problems(
        project(tmp_path, test='no_spec = "a tool"\n', suite=checked(BY_SUITE), awaiting=BY_TEST), catalog
    )

    assert "test_module.py: names no requirement" in problem
    assert said == []


def test_a_module_cannot_both_name_a_requirement_and_say_that_it_names_none(tmp_path: Path, catalog: Catalog) -> None:
    both = 'no_spec = "a tool"\n' + marked(BY_TEST, BY_SUITE)

    (problem,) = find_problems(project(tmp_path, test=both), catalog)

    assert "says `no_spec` and names" in problem


@pytest.mark.parametrize(
    "source",
    [
        '@pytest.mark.spec("ORCH-3054-001")\nclass TestIt: ...',
        'pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3054-001")]',
        'CASES = [pytest.param(1, marks=pytest.mark.spec("ORCH-3054-001"))]',
        '@requirement("ORCH-3054-001")\nasync def test_it(subject): ...',
    ],
)
def test_every_way_to_name_a_requirement_counts(source: str) -> None:
    assert set(named_ids(source)) == {"ORCH-3054-001"}


def test_an_id_in_a_comment_or_a_string_names_nothing() -> None:
    assert named_ids('# ORCH-3054-001\nX = "ORCH-3054-001"\ndef test_it(): """ORCH-3054-001"""') == {}


def test_an_empty_reason_is_none() -> None:
    assert stated_reason('no_spec = "  "') == ""
    assert stated_reason("x = 1") is None
