"""Which server is run, with which Python: what is found, prepared and refused."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path

import pytest

from adapter_api.errors import ConfigurationError
from adapter_kit.installing import requirements_of
from triton_adapter.embedded import EmbeddedTriton, layout
from triton_adapter.embedded.fetched import numpy1_folder, with_wheel
from triton_adapter.embedded.interpreter import (
    MADE_BY_SET_UP,
    PYTHON_VARIABLE,
    WHEEL,
    Interpreter,
    inspect,
    server_python,
)
from triton_adapter.embedded.layout import BINARY_VARIABLE, check_supported, lay_out
from triton_adapter.embedded.libpython import UNPACKED, find_libpython

from .engine import tinylm
from .repositories import add_model
from .traces import children

GUARD = Path(sys.modules[EmbeddedTriton.__module__].__file__ or "").parent / "stub" / "triton_python_backend_utils.py"


def told(line: str) -> None:
    pass


@pytest.fixture
def stranger(tmp_path: Path) -> Interpreter:
    """An interpreter of a version that this machine certainly lacks."""
    return Interpreter(
        executable=tmp_path / "bin" / "python3",
        version=(3, 99),
        prefix=tmp_path / "venv",
        base_prefix=tmp_path / "base",
        libdir=tmp_path / "libdir",
        numpy=None,
        pytriton=None,
    )


def library(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "libpython3.99.so.1.0").touch()
    return folder / "libpython3.99.so.1.0"


def test_the_running_interpreter_is_seen_as_it_is() -> None:
    found = inspect()

    assert found.version == sys.version_info[:2]
    assert found.prefix == Path(sys.prefix)
    assert found.base_prefix == Path(sys.base_prefix)


@pytest.mark.parametrize("folder", ["libdir", "base/lib", f"venv/{UNPACKED}"])
def test_the_shared_library_is_found_where_it_may_lie(stranger: Interpreter, tmp_path: Path, folder: str) -> None:
    expected = library(tmp_path / folder)

    assert find_libpython(stranger) == expected


def test_the_shared_library_is_found_in_a_debian_package_that_was_unpacked_whole(
    stranger: Interpreter, tmp_path: Path
) -> None:
    expected = library(tmp_path / "venv" / UNPACKED / "usr" / "lib" / "x86_64-linux-gnu")

    assert find_libpython(stranger) == expected


def test_without_the_shared_library_the_package_to_install_is_named(stranger: Interpreter) -> None:
    with pytest.raises(ConfigurationError, match=r"apt-get install libpython3\.99"):
        find_libpython(stranger)


def test_a_numpy_1_of_the_environment_is_used_as_it_is(stranger: Interpreter) -> None:
    assert numpy1_folder(replace(stranger, numpy="1.26.4"), told) is None


@pytest.mark.parametrize("numpy", [None, "2.3.1"])
def test_a_numpy_1_fetched_before_is_used_again(
    stranger: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy: str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetched = tmp_path / "worker-adapter" / "numpy1-cp399"
    (fetched / "numpy").mkdir(parents=True)

    assert numpy1_folder(replace(stranger, numpy=numpy), told) == fetched


@pytest.mark.long
def test_a_numpy_1_that_cannot_be_fetched_says_what_to_run_and_leaves_nothing(
    stranger: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(ConfigurationError, match=r"pip install 'numpy<2'` yourself, or set XDG_CACHE_HOME"):
        numpy1_folder(replace(stranger, numpy="2.3.1"), told)

    assert list((tmp_path / "worker-adapter").iterdir()) == []


def test_a_stub_with_numpy_2_refuses_to_work(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("__version__ = '2.3.1'\n")

    ran = subprocess.run([sys.executable, GUARD], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)

    assert ran.returncode != 0
    assert "needs numpy<2 and found numpy 2.3.1" in ran.stderr


@pytest.mark.parametrize("machine", [("Darwin", "arm64"), ("Linux", "riscv64"), ("Windows", "AMD64")], ids=str)
def test_a_platform_without_the_wheel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: tuple[str, str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: machine[0])
    monkeypatch.setattr(platform, "machine", lambda: machine[1])

    with pytest.raises(ConfigurationError, match=r"runs on Linux on x86_64 or aarch64, and this is"):
        lay_out(tmp_path, server_binary=None, python=None, progress=told)


def test_a_python_that_the_wheel_is_not_made_for_is_told_with_those_it_is_made_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(layout, "server_python", lambda python=None: replace(inspect(), version=(3, 13)))

    with pytest.raises(ConfigurationError, match=r"3\.13 .*name a Python 3\.11 or 3\.12 .* --python") as refused:
        check_supported()
    assert EmbeddedTriton.obstacle() == refused.value.message


def test_a_server_that_is_installed_is_supported_by_any_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tritonserver").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(layout, "server_python", lambda python=None: replace(inspect(), version=(3, 13)))

    check_supported()


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """The interpreter of a virtual environment in which nothing is installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    return tmp_path / "bare" / "bin" / "python"


def test_without_wheel_and_server_the_extra_to_install_is_named(
    tmp_path: Path, bare_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    # As if the wheel were made for whichever version runs this.
    monkeypatch.setattr(layout, "SUPPORTED_VERSIONS", (sys.version_info[:2],))

    bare = inspect(bare_python)
    monkeypatch.setattr(layout, "server_python", lambda python: bare)

    with pytest.raises(ConfigurationError, match=r"/bare/bin/python -m pip install nvidia-pytriton==\S+ 'numpy<2'"):
        lay_out(tmp_path, server_binary=None, python=None, progress=told)


def test_for_a_python_that_was_named_the_wheel_is_fetched_once(
    stranger: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetched = tmp_path / "worker-adapter" / f"{WHEEL.replace('==', '-')}-cp399" / "pytriton"
    fetched.mkdir(parents=True)

    assert with_wheel(stranger, told).pytriton == fetched
    assert with_wheel(replace(stranger, pytriton=tmp_path), told).pytriton == tmp_path


def test_a_cache_that_cannot_be_written_is_told(stranger: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")

    with pytest.raises(ConfigurationError, match="set XDG_CACHE_HOME to a folder that can be written"):
        numpy1_folder(replace(stranger, numpy="2.3.1"), told)


def test_the_python_that_is_named_runs_the_server(bare_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)

    assert server_python(bare_python).executable == bare_python

    monkeypatch.setenv(PYTHON_VARIABLE, str(bare_python))

    assert server_python().executable == bare_python
    assert server_python(Path(sys.executable)).executable == Path(sys.executable)


def test_the_python_that_the_set_up_made_serves_one_that_has_no_server(
    bare_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    made = bare_python.parent.parent / MADE_BY_SET_UP
    monkeypatch.setattr(sys, "executable", str(bare_python))

    assert server_python().executable == bare_python

    made.parent.mkdir(parents=True)
    made.symlink_to(bare_python)

    assert server_python().executable == made


def test_the_wheel_is_the_one_that_the_extra_names() -> None:
    assert WHEEL in requirements_of("embedded", requires("worker-adapter") or [])


@pytest.mark.live
@pytest.mark.long
def test_the_server_runs_with_a_python_that_is_not_ours(
    tmp_path: Path, bare_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the product's own is too new: with what it lacks out of the cache."""
    ours = server_python()
    assert ours.pytriton is not None
    cache = tmp_path / "worker-adapter"
    for package, folder in (("numpy", "numpy1"), ("pytriton", WHEEL.replace("==", "-"))):
        target = cache / f"{folder}-cp{ours.version[0]}{ours.version[1]}"
        target.mkdir(parents=True)
        for found in ours.pytriton.parent.glob(f"*{package}*"):
            (target / found.name).symlink_to(found)
    subprocess.run([ours.executable, "-m", "venv", "--without-pip", tmp_path / "other"], check=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    other = tmp_path / "other" / "bin" / "python"
    with EmbeddedTriton(add_model(tmp_path / "models", "echo"), python=other) as triton:
        assert triton.models == ["echo"]


@pytest.mark.long
@pytest.mark.live
@pytest.mark.parametrize(
    "found_by", ["variable", *(pytest.param(way, marks=pytest.mark.long) for way in ("path", "argument"))]
)
def test_a_server_that_is_installed_is_run_with_its_own_backends(
    tmp_path: Path, bare_python: Path, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    program = _installed_server(tmp_path / "opt")
    if found_by == "path":
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    elif found_by == "variable":
        monkeypatch.setenv(BINARY_VARIABLE, str(program))
    argument = program if found_by == "argument" else None

    with EmbeddedTriton(add_model(tmp_path / "models", "echo"), server_binary=argument, python=bare_python) as triton:
        assert triton.models == ["echo"]
        command = Path(f"/proc/{triton.pid}/cmdline").read_text()

    assert f"--backend-directory={program.parent.parent / 'backends'}\0" in command


@pytest.mark.live
def test_models_run_on_the_numpy_1_that_was_proven(triton: EmbeddedTriton) -> None:
    assert tinylm(triton, "A list is", max_tokens=2).text

    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in children(triton.pid)]
    assert maps
    assert all("numpy/core/_multiarray_umath" in text for text in maps), "numpy 2 has it in numpy/_core"


def _installed_server(root: Path) -> Path:
    """Lay the wheel's server out as NVIDIA's container has it, and return its program."""
    (root / "work").mkdir(parents=True)
    layout = lay_out(root / "work", server_binary=None, python=None, progress=told)
    (root / "backends").symlink_to(root / "work" / "backends")
    exports = "".join(f"export {name}='{value}'\n" for name, value in layout.environment.items())
    program = root / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{exports}exec {shlex.quote(str(layout.program))} "$@"\n')
    program.chmod(0o755)
    return program
