"""The linter of the specifications finds each fault, and the catalog is what the specifications say."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance_tests.catalog import encode, load, main, read_specs
from tests.project.repository import ROOT

REQUIREMENT = """\
#### ORCH-3054-001
> The adapter **MUST** be found by
> its name.

since: 0.1.0 · when: always · verify: conformance
Why: Nobody looks
for anything else.
"""


def specs(folder: Path, *requirements: str, withdrawn: str = "") -> Path:
    (folder / "ORCH-3054-registry.md").write_text(
        "# Registry\n\nIntroduction.\n\n## Part\n\n" + "\n".join(requirements)
    )
    (folder / "withdrawn.md").write_text(f"# Withdrawn\n\n{withdrawn}\n")
    return folder


def problems_of(folder: Path) -> list[str]:
    return [str(problem) for problem in read_specs(folder)[1]]


def test_a_requirement_is_read_with_all_its_fields(tmp_path: Path) -> None:
    catalog, problems = read_specs(specs(tmp_path, REQUIREMENT))

    (requirement,) = catalog.requirements
    assert problems == []
    assert requirement.text == "The adapter MUST be found by its name."
    assert requirement.why == "Nobody looks for anything else."
    assert (requirement.id, requirement.chapter, requirement.keyword) == ("ORCH-3054-001", "ORCH-3054", "MUST")
    assert (requirement.since, requirement.when, requirement.verify) == ("0.1.0", "always", "conformance")
    assert catalog["ORCH-3054-001"] is requirement
    assert catalog.chapters[0].title == "Registry"


def test_text_between_the_parts_of_a_chapter_belongs_to_no_requirement(tmp_path: Path) -> None:
    following = REQUIREMENT.replace("-001", "-002").replace("**MUST**", "**SHOULD NOT**")

    catalog, problems = read_specs(specs(tmp_path, REQUIREMENT, "## Another part\n\nIt **MUST** be read.\n", following))

    assert problems == []
    assert [requirement.keyword for requirement in catalog.requirements] == ["MUST", "SHOULD NOT"]


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("-001", "-01", "is no ID"),
        ("ORCH-3054-001", "ORCH-3055-001", "wrong chapter"),
        ("**MUST**", "must", "has 0 bold keywords"),
        ("its name.", "its name, and **MUST** work.", "has 2 bold keywords"),
        ("its name.", "its name, and SHOULD work.", "second keyword, SHOULD"),
        ("its name.", "its name", "full stop"),
        ("> The adapter **MUST** be found by\n> its name.", "The adapter **MUST** be found.", "block quote"),
        ("since: 0.1.0 · ", "", "lacks its line"),
        ("since: 0.1.0", "since: soon", "'soon' is no version"),
        ("when: always", "when: telepathy", "neither `always` nor a capability"),
        ("verify: conformance", "verify: somehow", "neither `conformance` nor `test`"),
        ("Why: Nobody looks\nfor anything else.", "", "lacks its reason"),
    ],
)
def test_a_fault_in_a_requirement_is_found(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    faulty = REQUIREMENT.replace(old, new)
    assert faulty != REQUIREMENT

    problems = problems_of(specs(tmp_path, faulty))

    assert any(complaint in problem for problem in problems), problems
    assert all(problem.startswith("ORCH-3054-registry.md:") for problem in problems)


def test_a_problem_names_its_line(tmp_path: Path) -> None:
    problems = problems_of(specs(tmp_path, REQUIREMENT, REQUIREMENT.replace("-001", "-002").replace("**", "")))

    assert problems[0].startswith("ORCH-3054-registry.md:15: ORCH-3054-002: ")


def test_an_id_used_twice_is_found(tmp_path: Path) -> None:
    assert "is there twice" in problems_of(specs(tmp_path, REQUIREMENT, REQUIREMENT))[0]


def test_a_withdrawn_id_cannot_be_used_again(tmp_path: Path) -> None:
    withdrawn = "- ORCH-3054-001 (0.2.0): nobody could keep it."

    assert "is withdrawn" in problems_of(specs(tmp_path, REQUIREMENT, withdrawn=withdrawn))[0]


def test_a_number_that_is_neither_used_nor_withdrawn_is_found(tmp_path: Path) -> None:
    only_the_second = REQUIREMENT.replace("-001", "-002")

    assert "ORCH-3054-001 is missing" in problems_of(specs(tmp_path, only_the_second))[0]
    assert problems_of(specs(tmp_path, only_the_second, withdrawn="- ORCH-3054-001 (0.2.0): too strict.")) == []


def test_a_chapter_with_another_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "ORCH-registry.md").write_text("# Registry\n")

    assert "a chapter is called" in problems_of(tmp_path)[0]


def test_the_catalog_is_written_once_and_is_fresh_until_the_specs_change(tmp_path: Path) -> None:
    folder, catalog = specs(tmp_path, REQUIREMENT), tmp_path / "catalog.json"
    options = ["--specs", str(folder), "--catalog", str(catalog)]

    assert main(["--check", *options]) == 1
    assert main(["--write", *options]) == 0
    assert main(["--check", *options]) == 0
    specs(tmp_path, REQUIREMENT.replace("found", "called"))
    assert main(["--check", *options]) == 1


def test_a_requirement_cannot_leave_the_catalog_unless_it_is_withdrawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = REQUIREMENT.replace("-001", "-002")
    folder, catalog = specs(tmp_path, REQUIREMENT, second), tmp_path / "catalog.json"
    write = ["--write", "--specs", str(folder), "--catalog", str(catalog)]
    assert main(write) == 0

    specs(tmp_path, REQUIREMENT)

    assert main(write) == 1
    assert "ORCH-3054-002 is in the catalog and not in the specs" in capsys.readouterr().err
    specs(tmp_path, REQUIREMENT, withdrawn="- ORCH-3054-002 (0.2.0): too strict.")
    assert main(write) == 0


def test_a_folder_without_requirements_is_no_success(tmp_path: Path) -> None:
    assert main(["--check", "--specs", str(tmp_path), "--catalog", str(tmp_path / "catalog.json")]) == 1


def test_the_committed_catalog_is_what_the_specs_of_this_project_say() -> None:
    catalog, problems = read_specs(ROOT / "specs")

    assert problems == []
    assert load() == catalog
    assert encode(load()) == encode(catalog)


def test_an_id_that_is_in_no_catalog_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="ORCH-9999-001"):
        load()["ORCH-9999-001"]
