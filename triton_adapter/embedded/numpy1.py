"""Have a numpy 1 at hand for the Python backend, whose stub corrupts tensors with numpy 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from adapter_api.errors import ConfigurationError

from .interpreter import Interpreter

_INSTALL_TIMEOUT_S = 300.0


def numpy1_folder(interpreter: Interpreter, progress: Callable[[str], None]) -> Path | None:
    """Return a folder to import numpy 1 from, or `None` when the interpreter's own numpy is one.

    The first time, pip installs it into the user's cache, about 60 MB; afterwards it is there.

    Raises:
        ConfigurationError: It cannot be installed.
    """
    if interpreter.numpy is not None and interpreter.numpy.startswith("1."):
        return None
    folder = _cache() / f"numpy1-cp{interpreter.version[0]}{interpreter.version[1]}"
    if not (folder / "numpy").is_dir():
        found = f"numpy {interpreter.numpy}" if interpreter.numpy else "no numpy"
        progress(f"{interpreter.name} has {found}; fetching numpy 1 for Triton's Python backend, once")
        _install(interpreter, folder)
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worker-adapter"


def _install(interpreter: Interpreter, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    command = [str(interpreter.executable), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--only-binary", ":all:", "--no-deps", "--target", str(fresh), "numpy<2"]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=True)
        # Another process may have been faster; then its folder serves as well.
        if not folder.exists():
            fresh.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise ConfigurationError(
            f"Triton's Python backend needs numpy<2 and it could not be installed for {interpreter.name}: "
            f"{lines[-1] if lines else error}; run `{interpreter.executable} -m pip install 'numpy<2'` yourself"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
