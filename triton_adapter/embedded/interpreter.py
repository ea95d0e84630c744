"""What the embedded server must know about the Python interpreter that runs its models."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adapter_api.errors import ConfigurationError

SUPPORTED_VERSIONS = ((3, 11), (3, 12))
WHEEL = "nvidia-pytriton==0.7.0"
NUMPY = "numpy<2"
REQUIREMENTS = (WHEEL, NUMPY)
"""What the server's interpreter needs. The wheel is used for its binaries alone, so without what it depends on."""

PYTHON_VARIABLE = "TRITON_SERVER_PYTHON"
MADE_BY_SET_UP = Path("lib", "embedded-triton", "bin", "python")
"""Below an environment whose Python is too new for the server: where a set-up script may make another one for it."""

_PROBE_TIMEOUT_S = 30.0

# Isolated, as the models' interpreter will be: PYTHONPATH and the user's own site-packages do not count.
_PROBE = """
import json, sys, sysconfig
from importlib import metadata, util
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
pytriton = util.find_spec("pytriton")
print(json.dumps({
    "version": sys.version_info[:2],
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "libdir": sysconfig.get_config_var("LIBDIR") or "",
    "numpy": version("numpy"),
    "pytriton": list(pytriton.submodule_search_locations)[0] if pytriton else None,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python installation or virtual environment.

    `numpy` is the version that its isolated interpreter finds, `pytriton` the folder of that package; `None` if absent.
    """

    executable: Path
    version: tuple[int, int]
    prefix: Path
    base_prefix: Path
    libdir: Path
    numpy: str | None
    pytriton: Path | None

    @property
    def name(self) -> str:
        return f"Python {self.version[0]}.{self.version[1]} ({self.executable})"


def check_platform() -> None:
    """Raise `ConfigurationError` unless this machine can run the wheel's server."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in {"x86_64", "aarch64"}:
        raise ConfigurationError(
            f"the embedded Triton runs on Linux on x86_64 or aarch64, and this is {system} on {machine}; "
            "start a Triton server elsewhere and give its URL instead"
        )


def asked_python(asked: Path | None = None) -> Path | None:
    """Return the interpreter that the user named, by `asked` or by `$TRITON_SERVER_PYTHON`."""
    given = str(asked or os.environ.get(PYTHON_VARIABLE) or "")
    return Path(shutil.which(given) or given) if given else None


def server_python(asked: Path | None = None) -> Interpreter:
    """Return the interpreter that the server and its models run with; whether they can is not looked at.

    `asked` first, then `$TRITON_SERVER_PYTHON`, then the running one if it has the server's wheel, then the one that
    the set-up made for it.

    Raises:
        ConfigurationError: It does not run.
    """
    named = asked_python(asked)
    if named is not None:
        return inspect(named)
    running = inspect()
    made = running.prefix / MADE_BY_SET_UP
    return inspect(made) if running.pytriton is None and made.exists() else running


def inspect(executable: Path | None = None) -> Interpreter:
    """Return what is known about `executable`, or about the running interpreter.

    Raises:
        ConfigurationError: It does not run.
    """
    # Not resolved: a virtual environment's python is a link, and known by where the link stands.
    path = Path(executable or sys.executable).absolute()
    try:
        ran = subprocess.run(
            [str(path), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise ConfigurationError(f"{path} is no working Python interpreter: {detail}") from error
    found = json.loads(ran.stdout)
    return Interpreter(
        executable=path,
        version=(found["version"][0], found["version"][1]),
        prefix=Path(found["prefix"]),
        base_prefix=Path(found["base_prefix"]),
        libdir=Path(found["libdir"]),
        numpy=found["numpy"],
        pytriton=Path(found["pytriton"]) if found["pytriton"] else None,
    )
