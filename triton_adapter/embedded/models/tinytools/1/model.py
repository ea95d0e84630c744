"""The tiny language model, which calls the tools that a prompt offers it; see `tiny.calling`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

from tiny import vllm
from tiny.calling import answer


class TritonPythonModel(vllm.TritonPythonModel):
    def said(self, prompt):
        return answer(prompt)
