"""The set-up chooses the interpreter that can do most, and says what is missing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import interpreters
import pytest
from interpreters import Interpreter, best_interpreter, inspect

from tests.project.repository import ROOT

NOWHERE = Path("/nowhere/bin/python")


def python(path: str, version: tuple[int, int, int]) -> Interpreter:
    return Interpreter(path, f"/opt/{path}", version)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Interpreter]:
    """A Linux machine with the interpreters that the test puts in, by the name they are called with."""
    present: dict[str, Interpreter] = {}
    monkeypatch.setattr(interpreters, "inspect", present.get)
    monkeypatch.setattr("interpreters.shutil.which", lambda name: name if name in present else None)
    monkeypatch.setattr("interpreters.platform.system", lambda: "Linux")
    monkeypatch.setattr("interpreters.platform.machine", lambda: "x86_64")
    return present


def test_one_that_runs_the_embedded_server_is_preferred(machine: dict[str, Interpreter]) -> None:
    machine["python3"] = python("newest", (3, 13, 0))
    machine["python3.12"] = python("older", (3, 12, 1))

    assert best_interpreter("", present=NOWHERE, for_embedded=True).path == "older"
    assert best_interpreter("", present=NOWHERE, for_embedded=False).path == "newest"


def test_one_that_cannot_run_the_embedded_server_is_better_than_none(machine: dict[str, Interpreter]) -> None:
    machine["python3"] = python("newest", (3, 13, 0))

    chosen = best_interpreter("", present=NOWHERE, for_embedded=True)

    assert chosen.path == "newest"
    assert not chosen.has_embedded_server


def test_the_environment_that_is_there_is_kept(machine: dict[str, Interpreter]) -> None:
    machine["python3"] = python("other", (3, 12, 1))
    machine[str(NOWHERE)] = python("present", (3, 11, 2))

    assert best_interpreter("", present=NOWHERE, for_embedded=True).path == "present"


def test_the_one_that_is_asked_for_is_taken(machine: dict[str, Interpreter]) -> None:
    machine["python3"] = python("usual", (3, 12, 1))
    machine["/opt/mine"] = python("mine", (3, 13, 0))

    assert best_interpreter("/opt/mine", present=NOWHERE, for_embedded=True).path == "mine"


def test_too_old_ones_are_refused_with_what_to_do(machine: dict[str, Interpreter]) -> None:
    machine["python3"] = python("old", (3, 9, 2))

    with pytest.raises(LookupError, match=r"no Python 3\.11 or newer on PATH: install one"):
        best_interpreter("", present=NOWHERE, for_embedded=True)
    with pytest.raises(LookupError, match=r"PYTHON=python3 is Python 3\.9\.2 \(old\)"):
        best_interpreter("python3", present=NOWHERE, for_embedded=True)
    with pytest.raises(LookupError, match="PYTHON=python7 is no Python that runs"):
        best_interpreter("python7", present=NOWHERE, for_embedded=True)


def test_a_name_that_runs_nothing_is_no_interpreter(tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)

    assert inspect(str(shim)) is None
    assert inspect(str(tmp_path / "absent")) is None


def test_an_environment_and_its_interpreter_are_one_installation() -> None:
    running = inspect(sys.executable)

    assert running is not None
    assert running.version == sys.version_info[:2]
    assert running.base_prefix == sys.base_prefix


@pytest.mark.parametrize("arguments", [[], ["everything"], ["demo", "dev"]])
def test_the_script_says_how_it_is_used(arguments: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "scripts/setup.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (2, "usage: python3 scripts/setup.py demo|dev\n")


def test_a_python_that_is_no_python_is_one_sentence_and_no_traceback() -> None:
    ran = subprocess.run(
        ["make", "--silent", "setup-dev", "PYTHON=/nowhere/python"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip

    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert "/nowhere/python" in ran.stderr
