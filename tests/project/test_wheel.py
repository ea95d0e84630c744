"""What travels to a user: everything that runs, and nothing that only proves our own suite."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.project.repository import PACKAGES, ROOT, project_files, relative

no_spec = "how the project is packed"

STAYS = ("conformance_tests/mutants/", "conformance_tests/reference/")
"""For those who change the suite: in the checkout and the source distribution."""

ENTRIES = {"conformance_tests/mutants/__init__.py", "conformance_tests/mutants/__main__.py"}
"""What is left of it in the wheel, to say where the rest is."""

NEEDED = (
    *(f"{package}/py.typed" for package in PACKAGES),
    "adapter_api/schemas/*.json",
    "conformance_tests/catalog.json",
    "conformance_tests/report.schema.json",
    "orchestrator/http/*.html",
    "triton_adapter/wire/v2_pb2.py",
    "triton_adapter/wire/v2_pb2.pyi",
    "triton_adapter/wire/v2.proto",
    "triton_adapter/embedded/models/*/config.pbtxt",
    "triton_adapter/embedded/models/*/1/model.py",
    "triton_adapter/embedded/model_code/tiny/*.py",
    "triton_adapter/embedded/stub/*.py",
)
"""What is found by its path at run time, or by type checkers, and would be missed by nobody's import."""


@cache
def travelling() -> frozenset[str]:
    """The wheel's files, as its builder lists them; nothing is built."""
    return frozenset(file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files())


def test_no_mutant_travels_and_no_engine_that_only_they_spoil() -> None:
    assert {path for path in travelling() if path.startswith(STAYS)} == ENTRIES


def test_every_other_file_of_the_packages_travels_and_no_other_does() -> None:
    ours = {path for path in map(relative, project_files()) if path.partition("/")[0] in PACKAGES}

    assert travelling() == {path for path in ours if not path.startswith(STAYS)} | ENTRIES


@pytest.mark.parametrize("pattern", NEEDED)
def test_what_is_found_by_its_path_travels(pattern: str) -> None:
    wanted = {relative(path) for path in ROOT.glob(pattern)}

    assert wanted
    assert wanted <= travelling()


def test_nothing_that_travels_imports_what_stays() -> None:
    graph = grimp.build_graph("conformance_tests", cache_dir=None)
    stays = {module for module in graph.modules if module.replace(".", "/").startswith(tuple(s[:-1] for s in STAYS))}
    entries = {"conformance_tests.mutants", "conformance_tests.mutants.__main__"}

    for module in stays - entries:
        assert graph.find_modules_that_directly_import(module) <= stays, module
    assert stays > entries


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite as the wheel has it."""
    folder = tmp_path_factory.mktemp("installed")
    for path in travelling():
        if path.startswith("conformance_tests/"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    return folder


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["conformance_tests.mutants"], "Run this command in a checkout of its repository"),
        (
            ["conformance_tests", "--harness", "conformance_tests.reference:ReferenceHarness"],
            "it is in worker-adapter's repository and source distribution only",
        ),
    ],
    ids=["the mutants", "the reference"],
)
def test_whoever_asks_an_installed_suite_for_what_stayed_is_told_where_it_is(
    installed: Path, arguments: list[str], message: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=installed, capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.returncode, ran.stdout) == (4, "")
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_installed_suite_still_lists_its_requirements(installed: Path) -> None:
    command = [sys.executable, "-m", "conformance_tests", "--list"]
    ran = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=60, check=True)

    assert "ORCH-3059-003" in ran.stdout
