"""Stands in front of the wheel's module of this name in every stub process, and checks numpy first.

The stub's C++ half predates numpy 2: with it FP32 outputs come back empty and BYTES inputs are garbage, without an
error. The launcher sees to it that a numpy 1 is first on the path; here every single stub proves it, or its model does
not load. Then this becomes the wheel's module.
"""

from __future__ import annotations

import os

import numpy

if not numpy.__version__.startswith("1."):
    raise ImportError(
        f"Triton's Python backend needs numpy<2 and found numpy {numpy.__version__} in "
        f"{os.path.dirname(numpy.__file__)}"
    )

_wheel_module = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wheel_backend_utils.py")
with open(_wheel_module, encoding="utf-8") as _source:
    exec(compile(_source.read(), _wheel_module, "exec"), globals())
