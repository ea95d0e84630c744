"""Model repositories for tests that need their own."""

from __future__ import annotations

from pathlib import Path

_CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "IN", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "OUT", data_type: TYPE_FP32, dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""

GOOD = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())]) for r in requests]
"""


# These models' configurations are complete, and completing one costs the server a second.
QUICK = ("--disable-auto-complete-config",)


def add_model(repository: Path, name: str, code: str | None = GOOD, config: str = _CONFIG) -> Path:
    """Write a Python model into the repository, without a model.py for `None`; return the repository."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    if code is not None:
        (version / "model.py").write_text(code)
    return repository
