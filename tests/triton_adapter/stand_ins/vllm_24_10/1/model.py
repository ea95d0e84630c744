"""The demo model `tinylm`, with the fewer tensors of an older backend."""

import runpy
from pathlib import Path

_TINYLM = Path(__file__).resolve().parents[5] / "triton_adapter/embedded/models/tinylm/1/model.py"

TritonPythonModel = runpy.run_path(str(_TINYLM))["TritonPythonModel"]
