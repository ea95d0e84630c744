"""Find the shared library of a Python interpreter, which the stub processes of the Python backend are linked to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from adapter_api.errors import ConfigurationError

from .interpreter import Interpreter

# Below an environment: where a set-up script may unpack Debian's package without being root.
UNPACKED = Path("lib", "embedded-libpython")


def find_libpython(interpreter: Interpreter) -> Path:
    """Return the path of `libpython3.X.so.1.0`.

    Raises:
        ConfigurationError: There is none; the message says what to install.
    """
    soname = soname_of(interpreter)
    for folder in _folders(interpreter, soname):
        if (folder / soname).is_file():
            return folder / soname
    major, minor = interpreter.version
    raise ConfigurationError(
        f"{interpreter.name} has no shared library {soname}, which Triton's Python backend needs: install it "
        f"(Debian and Ubuntu: apt-get install libpython{major}.{minor}), or put it into {interpreter.prefix / UNPACKED}"
    )


def soname_of(interpreter: Interpreter) -> str:
    return f"libpython{interpreter.version[0]}.{interpreter.version[1]}.so.1.0"


def _folders(interpreter: Interpreter, soname: str) -> Iterator[Path]:
    yield interpreter.libdir
    yield interpreter.base_prefix / "lib"
    yield interpreter.base_prefix / "lib64"
    yield interpreter.executable.resolve().parent.parent / "lib"
    yield from _loader_folders(soname)
    # A whole Debian package unpacked there has the library some folders further down.
    unpacked = interpreter.prefix / UNPACKED
    yield unpacked
    yield from sorted(path.parent for path in unpacked.rglob(soname))


def _loader_folders(soname: str) -> Iterator[Path]:
    """Yield the folder in which the dynamic loader's cache has the library."""
    for ldconfig in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        for line in listed.splitlines():
            name, _, path = line.strip().partition(" => ")
            if path and name.split(" ")[0] == soname:
                yield Path(path).parent
        return
