"""Packages that the server needs and its interpreter lacks, fetched once into the user's cache.

Nothing of the interpreter's own installation is changed: it may be the system's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from adapter_api.errors import ConfigurationError
from adapter_kit.installing import install

from .interpreter import NUMPY, WHEEL, Interpreter

_INSTALL_TIMEOUT_S = 900.0


def numpy1_folder(interpreter: Interpreter, progress: Callable[[str], None]) -> Path | None:
    """Return a folder to import numpy 1 from, or `None` when the interpreter's own numpy is one.

    The Python backend's stub corrupts tensors with numpy 2. The first time, pip installs numpy 1 into the user's cache,
    about 60 MB; afterwards it is there.

    Raises:
        ConfigurationError: It cannot be installed.
    """
    if interpreter.numpy is not None and interpreter.numpy.startswith("1."):
        return None
    found = f"numpy {interpreter.numpy}" if interpreter.numpy else "no numpy"
    return _folder(interpreter, "numpy1", "numpy", NUMPY, f"has {found}", progress)


def with_wheel(interpreter: Interpreter, progress: Callable[[str], None]) -> Interpreter:
    """Return the interpreter with the server's wheel, from the cache, about 150 MB, if it has none of its own.

    Raises:
        ConfigurationError: It cannot be installed.
    """
    if interpreter.pytriton is not None:
        return interpreter
    name, version = WHEEL.split("==")
    folder = _folder(interpreter, f"{name}-{version}", "pytriton", WHEEL, f"lacks {name}", progress)
    return replace(interpreter, pytriton=folder / "pytriton")


def _folder(
    interpreter: Interpreter, name: str, package: str, requirement: str, lack: str, progress: Callable[[str], None]
) -> Path:
    folder = _cache() / f"{name}-cp{interpreter.version[0]}{interpreter.version[1]}"
    if not (folder / package).is_dir():
        progress(f"{interpreter.name} {lack}; fetching {requirement} for Triton's Python backend, once")
        _install(interpreter, requirement, folder)
    return folder


def _cache() -> Path:
    # expanduser, for home() raises where a user has none; then "~" cannot be made a folder of, and that is told.
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "worker-adapter").absolute()


def _install(interpreter: Interpreter, requirement: str, folder: Path) -> None:
    fresh: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
        command = [*_pip(interpreter), "--target", str(fresh), requirement]
        subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=True)
        # Another process may have been faster; then its folder serves as well.
        if not folder.exists():
            fresh.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise ConfigurationError(
            f"Triton's Python backend needs {requirement} and it could not be installed for {interpreter.name}: "
            f"{lines[-1] if lines else error}; run `{install(requirement, python=str(interpreter.executable))}` "
            "yourself, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def _pip(interpreter: Interpreter) -> list[str]:
    """Return the pip to install with: the running interpreter's, if it has one, for the other may have none."""
    python = sys.executable if find_spec("pip") else str(interpreter.executable)
    version = ".".join(map(str, interpreter.version))
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    return [*command, "--only-binary", ":all:", "--python-version", version]
