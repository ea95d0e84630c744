"""Choose the Python interpreter that `.venv` is made with."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)
EMBEDDED = ((3, 11), (3, 12))
"""The versions that the embedded Triton server runs with."""

NAMES = ("python3", "python3.12", "python3.11", "python3.13", "python3.14", "python")

_PROBE = "import json, sys; print(json.dumps([sys.executable, sys.base_prefix, list(sys.version_info[:3])]))"


class Interpreter(NamedTuple):
    """A Python that runs here."""

    path: str
    base_prefix: str
    full_version: tuple[int, ...]

    @property
    def version(self) -> tuple[int, int]:
        return self.full_version[0], self.full_version[1]

    @property
    def identity(self) -> str:
        """The same for every environment and alias of one installation."""
        return f"{self.base_prefix} {'.'.join(map(str, self.full_version))}"

    @property
    def has_embedded_server(self) -> bool:
        on_platform = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")
        return on_platform and self.version in EMBEDDED

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.full_version))} ({self.path})"


def best_interpreter(wanted: str, *, present: Path, for_embedded: bool) -> Interpreter:
    """Return the interpreter `wanted`, else that of the environment `present`, else the first on PATH.

    `for_embedded` prefers one that can run the embedded server to an earlier one that cannot.

    Raises:
        LookupError: There is none; the message says what to do.
    """
    if wanted:
        chosen = inspect(wanted)
        if chosen is None:
            raise LookupError(f"PYTHON={wanted} is no Python that runs")
        if chosen.version < OLDEST:
            raise LookupError(f"PYTHON={wanted} is {chosen}; Python 3.11 or newer is needed")
        return chosen
    found = [one for one in installed(str(present)) if one.version >= OLDEST]
    if not found:
        raise LookupError(
            "no Python 3.11 or newer on PATH: install one (Debian and Ubuntu: apt-get install python3 python3-pip), or "
            "name it, as in `make demo PYTHON=/opt/python3.12/bin/python3`"
        )
    if for_embedded:
        found.sort(key=lambda one: not one.has_embedded_server)
    return found[0]


def installed(*preferred: str) -> Iterator[Interpreter]:
    """Yield the interpreters of this machine, each installation once, the preferred ones first."""
    seen = set()
    for name in (*preferred, sys.executable, *NAMES):
        found = inspect(name) if shutil.which(name) else None
        if found is not None and found.identity not in seen:
            seen.add(found.identity)
            yield found


def inspect(command: str) -> Interpreter | None:
    """Return what `command` is; `None` when it does not run, as a version manager's empty shim does not."""
    try:
        probe = subprocess.run(
            [command, "-c", _PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=30
        )
        path, base_prefix, version = json.loads(probe.stdout.decode())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(path, base_prefix, tuple(version))
