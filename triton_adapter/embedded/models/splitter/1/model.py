"""Repeats the prompt, bytes and all, in pieces of `piece_bytes` (a request parameter), wherever that cuts it.

With `drop_bytes`, another request parameter, so many bytes at the end are left out, wherever that cuts it.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

import triton_python_backend_utils as pb_utils
from tiny import serving


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._piece_bytes = int(serving.setting(args, "PIECE_BYTES", "1"))
        self._requests = serving.RequestLoop(self._repeat)

    async def _repeat(self, request, sender):
        prompt = bytes(pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0])
        options = serving.parameters(request)
        prompt = prompt[: len(prompt) - int(options.get("drop_bytes", 0))]
        size = max(1, int(options.get("piece_bytes", self._piece_bytes)))
        pieces = [prompt[at : at + size] for at in range(0, len(prompt), size)]
        for piece in pieces:
            await asyncio.sleep(0)
            serving.raise_if_cancelled(sender)
            serving.send(sender, {"text_output": serving.strings(piece)})
        serving.send_final(sender)
