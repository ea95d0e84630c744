"""Stands in front of the wheel's module of this name in every stub process, and makes numpy right first.

The stub runs an isolated interpreter and imports this module before any model. Its C++ half predates numpy 2: with it
FP32 outputs come back empty and BYTES inputs are garbage, without an error. So: prefer numpy 1 from the folder that the
launcher prepared, and refuse to go on with anything else. Then become the wheel's module.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata


def _numpy_major() -> int | None:
    try:
        return int(metadata.version("numpy").partition(".")[0])
    except metadata.PackageNotFoundError:
        return None


if _numpy_major() != 1 and "WORKER_ADAPTER_NUMPY1" in os.environ:
    sys.path.insert(0, os.environ["WORKER_ADAPTER_NUMPY1"])

import numpy  # noqa: E402 -- from the folder just put in front

if not numpy.__version__.startswith("1."):
    raise ImportError(
        f"Triton's Python backend needs numpy<2 and found numpy {numpy.__version__} in "
        f"{os.path.dirname(numpy.__file__)}"
    )

_wheel_module = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wheel_backend_utils.py")
with open(_wheel_module, encoding="utf-8") as _source:
    exec(compile(_source.read(), _wheel_module, "exec"), globals())
