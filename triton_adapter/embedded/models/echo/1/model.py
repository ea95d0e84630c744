"""Answers with what it was sent; see `tiny.echo`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

from tiny.echo import TritonPythonModel

__all__ = ["TritonPythonModel"]
