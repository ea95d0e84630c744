"""Choose the Python interpreters: that `.venv` is made with, and that the embedded Triton server runs with."""

from __future__ import annotations

import glob
import json
import os
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

PLACES = (
    "/usr/bin",
    "/usr/local/bin",
    "/opt/*/bin",
    "~/.pyenv/versions/*/bin",
    "~/.local/share/uv/python/*/bin",
    "~/miniconda3/envs/*/bin",
    "~/miniforge3/envs/*/bin",
)
"""Where one may be that is not on PATH, or is hidden there by a version manager."""

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
        return is_servers_platform() and self.version in EMBEDDED

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.full_version))} ({self.path})"


def is_servers_platform() -> bool:
    """Whether the embedded server exists for this system and processor, whatever the Python."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")


def best_interpreter(wanted: str, *, present: Path, for_embedded: bool) -> Interpreter:
    """Return the interpreter `wanted`, else that of the environment `present`, else the first on PATH.

    `for_embedded` prefers one on PATH that can run the embedded server itself to an earlier one that cannot.

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
    kept = inspect(str(present))
    if kept is not None and kept.version >= OLDEST:
        return kept
    found = [one for one in installed() if one.version >= OLDEST]
    if not found:
        raise LookupError(
            "no Python 3.11 or newer on PATH: install one (Debian and Ubuntu: apt-get install python3 python3-pip), or "
            "name it, as in `make demo PYTHON=/opt/python3.12/bin/python3`"
        )
    if for_embedded:
        found.sort(key=lambda one: not one.has_embedded_server)
    return found[0]


def server_interpreter(*preferred: str) -> Interpreter | None:
    """Return the first one on this machine that the embedded server runs with, one of `preferred` if it can be."""
    names = [f"python{major}.{minor}" for major, minor in reversed(EMBEDDED)]
    elsewhere = [
        path for name in names for place in PLACES for path in sorted(glob.glob(f"{os.path.expanduser(place)}/{name}"))
    ]
    for found in installed(*preferred, *names, *elsewhere):
        if found.has_embedded_server:
            return found
    return None


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
