"""Get the interpreter's shared library, which Triton's Python backend links to and a distribution's Python may lack."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_FIND = """
import sys
from pathlib import Path
from triton_adapter.embedded.interpreter import inspect
from triton_adapter.embedded.libpython import find_libpython
find_libpython(inspect(Path(sys.argv[1])))
"""
_APT_TIMEOUT_S = 180


def fetch_libpython(venv: Path, product: Path, version: tuple[int, int]) -> str | None:
    """Make sure that the embedded server finds `libpython3.X.so.1.0`; return what the user has to do otherwise.

    Debian's package is unpacked below `venv`: nothing of the system is changed, no root needed. `venv` is the server's
    environment; `product` is the Python in which this package is installed, and may be another one.
    """
    if _is_found(product, venv):
        return None
    package, library = f"libpython{version[0]}.{version[1]}", f"libpython{version[0]}.{version[1]}.so.1.0"
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = _unpack_package(package, Path(scratch)) if shutil.which("apt-get") else None
        found = sorted(unpacked.rglob(library)) if unpacked is not None else []
        if found:
            target = venv / "lib" / "embedded-libpython"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(found[0].resolve()), str(target / library))
    if _is_found(product, venv):
        return None
    return f"Triton's Python backend needs {library} and it was not found: run `apt-get install {package}` as root"


def _is_found(product: Path, venv: Path) -> bool:
    python = venv / "bin" / "python"
    return subprocess.run([str(product), "-c", _FIND, str(python)], stderr=subprocess.DEVNULL).returncode == 0


def _unpack_package(package: str, scratch: Path) -> Path | None:
    """Download and unpack a package with apt's lists, or with fresh ones kept in `scratch`."""
    private = []
    for name, folder in (("Dir::State::lists", "lists"), ("Dir::Cache", "cache")):
        (scratch / folder / "partial").mkdir(parents=True)
        (scratch / folder / "archives" / "partial").mkdir(parents=True)
        private += ["-o", f"{name}={scratch / folder}"]
    # apt as root would give its downloads to a user who cannot enter the scratch folder.
    private += ["-o", f"APT::Sandbox::User={_user()}"]
    if not _apt(["download", package], scratch):
        _apt([*private, "update"], scratch)
        _apt([*private, "download", package], scratch)
    for archive in scratch.glob(f"{package}_*.deb"):
        unpacked = scratch / "unpacked"
        if subprocess.run(["dpkg", "-x", str(archive), str(unpacked)]).returncode == 0:
            return unpacked
    return None


def _apt(arguments: list[str], scratch: Path) -> bool:
    command = ["apt-get", "--quiet=2", *arguments]
    try:
        ran = subprocess.run(
            command, cwd=str(scratch), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_APT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0


def _user() -> str:
    return "root" if os.geteuid() == 0 else str(os.environ.get("USER", ""))
