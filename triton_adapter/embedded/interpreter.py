"""What the embedded server must know about the Python interpreter that runs its models."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adapter_api.errors import ConfigurationError

SUPPORTED_VERSIONS = ((3, 11), (3, 12))
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
