"""The tiny language model behind the vLLM backend's tensors; see `tiny.vllm`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

from tiny.vllm import TritonPythonModel

__all__ = ["TritonPythonModel"]
