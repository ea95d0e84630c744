"""Which version of the host this is, for the faces that tell it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    try:
        return version("worker-adapter")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
