"""A stand-in for a folder with Triton's vLLM backend, made of the demo's language model: `lay_out(folder)`.

It follows the backend's tensors and words, and its engine is a process of its own, as vLLM's is: when that dies, every
request fails with vLLM's words for it until the model is loaded anew.
"""

from __future__ import annotations

from pathlib import Path

from triton_adapter.embedded import models as _demo

_MODELS = Path(next(iter(_demo.__path__)))
_CODE = _MODELS.parent / "model_code"

_BACKEND = """
import subprocess, sys

sys.path.insert(0, {code!r})
exec(compile(open({tinylm!r}).read().replace("parents[3]", "parents[0]"), {tinylm!r}, "exec"))


class TritonPythonModel(TritonPythonModel):
    @staticmethod
    def auto_complete_config(config):
        for name, kind, dims, optional in {inputs!r}:
            config.add_input({{"name": name, "data_type": kind, "dims": dims, "optional": optional}})
        for name, kind, dims in {outputs!r}:
            config.add_output({{"name": name, "data_type": kind, "dims": dims}})
        config.set_model_transaction_policy({{"decoupled": True}})
        config.set_max_batch_size(0)
        return config

    def initialize(self, args):
        super().initialize(args)
        waiting = "import sys; sys.stdin.read()"
        self._core = subprocess.Popen([sys.executable, "-c", waiting, "VLLM::EngineCore"], stdin=subprocess.PIPE)

    async def _generate(self, request, sender):
        if self._core.poll() is not None:
            raise RuntimeError("EngineCore encountered an issue. See stack trace (above) for the root cause.")
        await super()._generate(request, sender)

    def finalize(self):
        self._core.kill()
        super().finalize()
"""
_FLAGS = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens", "num_output_tokens")
_INPUTS = [
    ("text_input", "TYPE_STRING", [1], False),
    ("image", "TYPE_STRING", [-1], True),
    ("embedding_request", "TYPE_STRING", [1], True),
    ("stream", "TYPE_BOOL", [1], True),
    ("sampling_parameters", "TYPE_STRING", [1], True),
    ("exclude_input_in_output", "TYPE_BOOL", [1], True),
    *((f"return_{name}", "TYPE_BOOL", [1], True) for name in _FLAGS),
]
_OUTPUTS = [
    ("text_output", "TYPE_STRING", [-1]),
    ("finish_reason", "TYPE_STRING", [-1]),
    ("cumulative_logprob", "TYPE_FP32", [-1]),
    ("logprobs", "TYPE_STRING", [-1]),
    ("num_input_tokens", "TYPE_UINT32", [1]),
    ("num_output_tokens", "TYPE_UINT32", [-1]),
]


def lay_out(folder: Path) -> tuple[Path, Path]:
    """Make a folder of backends with the stand-in as `vllm`, and a repository with a model of it."""
    backend, model = folder / "backends" / "vllm", folder / "models" / "m"
    backend.mkdir(parents=True)
    (model / "1").mkdir(parents=True)
    made = _BACKEND.format(
        code=str(_CODE), tinylm=str(_MODELS / "tinylm" / "1" / "model.py"), inputs=_INPUTS, outputs=_OUTPUTS
    )
    (backend / "model.py").write_text(made)
    (model / "1" / "model.json").write_text("{}")
    (model / "config.pbtxt").write_text('backend: "vllm"\ninstance_group [ { kind: KIND_MODEL, count: 1 } ]\n')
    return folder / "backends", folder / "models"
