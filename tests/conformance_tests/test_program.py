"""`worker-adapter conformance`: the same command line from the installed program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

no_spec = "it is about the program that runs the suite"


@pytest.mark.parametrize(
    "arguments, exit_code, told",
    [
        (["--adapter", "mock", "--quiet"], 0, "# mock: conformant"),
        (["--adapter", "mock", "--quiet", "--only", "ORCH-3054"], 2, "incomplete"),
        (["--adapter", "no-such-adapter"], 4, "no adapter named"),
        (["--explain", "ORCH-3059-003"], 0, "MUST count 0, 1, 2"),
        (["--help"], 0, "--deviations FILE"),
    ],
)
@pytest.mark.long
def test_the_program_runs_the_suite_with_its_exit_codes(arguments: list[str], exit_code: int, told: str) -> None:
    program = Path(sys.executable).with_name("worker-adapter")

    ran = subprocess.run([program, "conformance", *arguments], capture_output=True, text=True, timeout=120)

    assert ran.returncode == exit_code, ran.stdout + ran.stderr
    assert told in ran.stdout + ran.stderr
