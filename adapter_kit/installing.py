"""The command that installs what is missing, right for the way in which this distribution was installed."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "worker-adapter"
_OF_EXTRA = re.compile(r"""\s*;.*\bextra\s*==\s*['"](?P<extra>[^'"]+)['"]""")


def install_extra(extra: str) -> str:
    """Return a command that adds one of our extras, such as "server", to the running environment.

    It works for a checkout, a wheel in a file and a copy out of an index, whether or not this version is published:
    where the origin is at hand the extra is installed from there, and elsewhere what the extra stands for.
    """
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return install(f"{DISTRIBUTION}[{extra}]")
    origin, editable = _origin(installed)
    if origin is not None:
        return install(f"{origin}[{extra}]", editable=editable)
    return install(*requirements_of(extra, installed.requires or ()))


def install(*requirements: str, python: str | None = None, editable: bool = False) -> str:
    """Return a command that installs `requirements` for the interpreter `python`, the running one if `None`."""
    if python is None and importlib.util.find_spec("pip") is None and shutil.which("uv"):
        words = ["uv", "pip", "install", "--python", sys.executable]
    else:
        words = [python or sys.executable, "-m", "pip", "install"]
    return shlex.join([*words, *(["-e"] if editable else []), *requirements])


def requirements_of(extra: str, requirements: Iterable[str]) -> list[str]:
    """Return what an extra stands for, given all requirements of a distribution, without their markers."""
    marked = ((line, _OF_EXTRA.search(line)) for line in requirements)
    return [line[: match.start()].strip() for line, match in marked if match and match["extra"] == extra]


def _origin(installed: Distribution) -> tuple[Path | None, bool]:
    """Return the checkout or the wheel's file that was installed, if it is still there, and whether it is in use."""
    try:
        direct = json.loads(installed.read_text("direct_url.json") or "{}")
        url = urlsplit(direct.get("url", ""))
    except ValueError:
        return None, False
    path = Path(unquote(url.path))
    if url.scheme != "file" or not path.exists():
        return None, False
    return path, bool(direct.get("dir_info", {}).get("editable"))
