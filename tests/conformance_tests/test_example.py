"""The example of the tutorial: the text shows its code, and the suite passes on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conformance_tests.report import read_report
from tests.project.repository import ROOT, Block, blocks

no_spec = "it is about an adapter outside of this distribution"

EXAMPLE = ROOT / "examples" / "minimal_adapter"


def shown() -> dict[str, Block]:
    """Return the blocks of the tutorial that show a file, by the file."""
    found = {}
    for language in ("python", "toml"):
        for block in blocks(language):
            for word in block.info[1:]:
                if word.startswith("file="):
                    found[word.removeprefix("file=")] = block
    return found


@pytest.mark.parametrize("file", sorted(shown()))
def test_the_tutorial_shows_the_code_of_the_example(file: str) -> None:
    assert shown()[file].text == (ROOT / file).read_text(encoding="utf-8"), f"{shown()[file]} is not {file}"


def test_the_tutorial_shows_every_file_that_an_author_writes() -> None:
    files = ("pyproject.toml", "parrot_adapter/plugin.py", "parrot_adapter/adapter.py", "test_conformance.py")

    assert shown().keys() == {f"examples/minimal_adapter/{file}" for file in files}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds the example as if it had been installed."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tmp_path / "site" / f"parrot_adapter-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [f"{name} = {target}" for name, target in project["entry-points"]["worker_adapter"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[worker_adapter]", *lines, ""]), encoding="utf-8")
    path = os.pathsep.join([str(metadata.parent), str(EXAMPLE), str(ROOT)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONPATH": path}


@pytest.mark.long
def test_the_example_is_conformant_in_its_own_tests(installed: dict[str, str], tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLE), "-c", os.devnull,
         f"--conformance-report={tmp_path / 'report'}", "test_conformance.py"],
        cwd=EXAMPLE, env=installed, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = read_report(tmp_path / "report" / "report.json")
    assert (report.under.adapter, report.verdict) == ("parrot", "conformant")


@pytest.mark.long  # which its own tests show quickly, on asyncio
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_example_is_conformant_from_the_command_line(installed: dict[str, str], backend: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "conformance_tests", "--harness", "test_conformance:ParrotHarness", "--quiet",
         "--backend", backend],
        cwd=EXAMPLE, env=installed, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# parrot: conformant" in ran.stdout
