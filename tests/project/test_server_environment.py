"""The embedded server gets a Python of its own where the product's is too new for it."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import interpreters
import pytest
import server_environment
from interpreters import Interpreter, server_interpreter
from server_environment import SetupError, is_settled, make, needs_own_python, python_of

from tests.programs import summary
from tests.project.repository import ROOT

no_spec = "how the checkout sets itself up is the project's own affair"

OLD, NEW = (
    Interpreter("/opt/old/python", "/opt/old", (3, 12, 1)),
    Interpreter("/opt/new/python", "/opt/new", (3, 13, 5)),
)
KEY = "wheel==1"


@pytest.fixture(autouse=True)
def a_linux_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpreters.platform.system", lambda: "Linux")
    monkeypatch.setattr("interpreters.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("server_environment.shutil.which", lambda name: None)
    for name in server_environment.SERVERS_OWN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    return tmp_path


def told(line: str) -> None:
    pass


class Runs:
    """Remembers what was run; fails at what is named."""

    def __init__(self, failing: str | None = None) -> None:
        self.programs: Counter[str] = Counter()
        self._failing = failing

    def __call__(self, command: list[str]) -> None:
        what = next(word for word in ("venv", "uv", "--target", "python") if word in " ".join(command))
        self.programs[what] += 1
        if self._failing is not None and self._failing in " ".join(command):
            raise SetupError(f"{self._failing} failed")
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)


def test_it_is_for_a_product_that_is_too_new_and_has_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needs_own_python(NEW)
    assert not needs_own_python(OLD)

    monkeypatch.setenv("TRITON_SERVER_PYTHON", "/opt/old/python")
    assert not needs_own_python(NEW)


def test_a_platform_without_the_server_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpreters.platform.system", lambda: "Darwin")

    assert not needs_own_python(NEW)


def test_one_of_the_machine_is_taken_and_the_wheel_put_into_its_environment(
    venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_environment, "server_interpreter", lambda *preferred: OLD)
    monkeypatch.setattr(server_environment, "fetch_libpython", lambda *arguments: None)
    runs = Runs()

    make(venv, KEY, [KEY], run=runs, say=told)

    assert runs.programs == {"venv": 1, "--target": 1}
    assert is_settled(venv, KEY)
    assert not is_settled(venv, "wheel==2")


def test_without_one_uv_is_asked_and_what_it_could_not_is_tried_again_only_when_something_changed(
    venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_environment, "server_interpreter", lambda *preferred: None)
    runs = Runs(failing="python install")

    with pytest.raises(SetupError, match="python install failed"):
        make(venv, KEY, [KEY], run=runs, say=told)

    assert is_settled(venv, KEY)
    assert not is_settled(venv, "wheel==2")

    monkeypatch.setattr(server_environment, "server_interpreter", lambda *preferred: OLD)
    assert not is_settled(venv, KEY)


def test_one_that_path_hides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = tmp_path / "versions" / "3.12.1" / "bin" / "python3.12"
    hidden.parent.mkdir(parents=True)
    hidden.touch(mode=0o755)
    monkeypatch.setattr("interpreters.shutil.which", lambda name: name if Path(name).is_file() else None)
    monkeypatch.setattr(interpreters, "PLACES", (str(tmp_path / "versions" / "*" / "bin"),))
    monkeypatch.setattr(interpreters, "inspect", lambda name: OLD if name == str(hidden) else None)

    assert server_interpreter() == OLD


def test_the_program_looks_where_the_set_up_puts_it(venv: Path) -> None:
    from triton_adapter.embedded.interpreter import MADE_BY_SET_UP

    assert python_of(venv) == venv / MADE_BY_SET_UP


def test_continuous_integration_sees_nothing_of_the_shell_that_starts_it(tmp_path: Path) -> None:
    """With programs that only show their environment in the place of the real ones."""
    for name in ("make", "curl", "prometheus", "chromium"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\necho "$0 $*"; env\n')
        program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "PYTHONUNBUFFERED": "1", "LANG": "x", "PIP_INDEX_URL": "http://index", "HOME": "/nowhere"}

    ran = subprocess.run(
        [ROOT / ".ci" / "run"], env=env, cwd="/", capture_output=True, text=True, timeout=60, check=True
    )

    commands = [line.partition(" ")[2] for line in ran.stdout.splitlines() if line.startswith(f"{tmp_path}/make")]
    assert commands[:2] == ["check", "test"]
    assert "PYTHONUNBUFFERED" not in ran.stdout
    assert "LANG=" not in ran.stdout
    assert {"PIP_INDEX_URL=http://index", "HOME=/nowhere", "CI=true"} <= set(ran.stdout.splitlines())


def test_programs_that_tests_missed_are_told_in_one_line() -> None:
    reasons = ["Skipped: needs curl on PATH: apt-get install curl", "Skipped: no GPU"] * 2
    reasons.append("needs promtool on PATH: apt-get install prometheus")

    assert summary(reasons) == (
        "3 tests skipped for want of programs: curl (2), promtool (1); "
        "to have them run: apt-get install curl prometheus"
    )
    assert summary(["Skipped: no GPU"]) is None


def test_the_set_up_runs_with_a_python_that_is_old() -> None:
    """Whatever `python3` is, it must be able to say what is missing: no syntax of later versions."""
    import ast

    for script in ("setup.py", "interpreters.py", "libpython.py", "server_environment.py"):
        ast.parse((ROOT / "scripts" / script).read_text(encoding="utf-8"), feature_version=(3, 7))
