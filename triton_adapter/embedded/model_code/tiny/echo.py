"""A model that answers with what it was sent, as one JSON text in small pieces: whole, whatever `max_tokens` says.

`inputs` are the tensors that came, by name, `parameters` those of the request, and `version` is the model's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import serving

_PIECE = 16


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args: Mapping[str, str]) -> None:
        self._version = args["model_version"]
        self._requests = serving.RequestLoop(self._echo)

    async def _echo(self, request: Any, sender: Any) -> None:
        inputs = {tensor.name(): serving.value(request, tensor.name()) for tensor in request.inputs()}
        told = {"inputs": inputs, "parameters": serving.parameters(request), "version": self._version}
        text = json.dumps(told)
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        words = len(inputs["text_input"].split())
        if not inputs.get("stream"):
            pieces = [text]
        for at, piece in enumerate(pieces, start=1):
            serving.raise_if_cancelled(sender)
            last = at == len(pieces)
            serving.send(sender, _outputs(inputs, piece, words, "stop" if last else "None"), final=last)


def _outputs(inputs: Mapping[str, Any], piece: str, words: int, reason: str) -> dict[str, Any]:
    made = {
        "finish_reason": serving.strings(reason),
        "num_input_tokens": np.asarray([words], np.uint32),
        "num_output_tokens": np.array([1], np.uint32),
    }
    asked = {name: value for name, value in made.items() if inputs.get(f"return_{name}")}
    return {"text_output": serving.strings(piece)} | asked
