"""The answers of `tool_families.asked` behind the vLLM backend's tensors, a random piece of letters a token."""

import json
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[6]))
sys.path.insert(0, str(Path(__file__).resolve().parents[6] / "triton_adapter" / "embedded" / "model_code"))

from tiny import serving

from tests.orchestrator.tool_families.asked import answer

_MOST_LETTERS = 6


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._requests = serving.RequestLoop(_generate)


async def _generate(request, sender):
    prompt = serving.value(request, "text_input")
    sampling = json.loads(serving.value(request, "sampling_parameters") or "{}")
    asked = {name for name in _FIGURES if serving.value(request, f"return_{name}", False)}
    text = answer(prompt, _schema(sampling))
    limit = int(sampling.get("max_tokens") or 16)
    pieces = list(_pieces(text, random.Random(prompt))) or [""]
    told, reason = pieces[:limit], "stop" if len(pieces) <= limit else "length"
    if not serving.value(request, "stream", False):
        serving.send(sender, _outputs("".join(told), reason, len(told), asked), final=True)
        return
    for at, piece in enumerate(told, start=1):
        serving.raise_if_cancelled(sender)
        last = at == len(told)
        serving.send(sender, _outputs(piece, reason if last else None, 1, asked), final=last)


_FIGURES = ("finish_reason", "num_input_tokens", "num_output_tokens")


def _schema(sampling):
    constraint = _object(sampling.get("structured_outputs") or sampling.get("guided_decoding") or {})
    return _object(constraint.get("json"))


def _object(value):
    """Backends get objects as such or as their text, by their release."""
    return json.loads(value) if isinstance(value, str) else value


def _pieces(text, cuts):
    at = 0
    while at < len(text):
        size = cuts.randint(1, _MOST_LETTERS)
        yield text[at : at + size]
        at += size


def _outputs(text, reason, tokens, asked):
    made = {
        "finish_reason": serving.strings(str(reason)),
        "num_input_tokens": np.asarray(1, np.uint32),
        "num_output_tokens": np.array([tokens], np.uint32),
    }
    return {"text_output": serving.strings(text)} | {name: made[name] for name in asked}
