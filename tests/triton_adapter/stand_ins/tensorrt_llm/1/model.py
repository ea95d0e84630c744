"""The tiny language model on token ids, each a byte of UTF-8.

As in the original: one message per step with the final flag on the last, logprobs repeated in every message, and a
second request of the same id with `stop` ends the first.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[5] / "triton_adapter/embedded/model_code"))

from tiny import serving
from tiny.generation import Generation
from tiny.language import LanguageModel
from tiny.sampling import SamplingParams

# Input tensor -> sampling parameter.
_SAMPLING = {
    "temperature": "temperature",
    "runtime_top_k": "top_k",
    "runtime_top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
}


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._model = LanguageModel()
        self._delay_s = float(serving.setting(args, "TOKEN_DELAY_MS", "5")) / 1000
        self._requests = serving.RequestLoop(self._serve)
        self._stopped = {}

    async def _serve(self, request, sender):
        if serving.value(request, "stop", False):
            self._stopped[request.request_id()] = True
            serving.send_final(sender)
            return
        self._stopped[request.request_id()] = False
        await self._generate(request, sender)

    async def _generate(self, request, sender):
        prompt = bytes(serving.values(request, "input_ids"))
        # The limit counts tokens of the language model, each of which is several ids: ids are what is asked for.
        limit = serving.value(request, "request_output_len")
        writer = Generation(self._model, self._model.encode(prompt.decode()), _sampling(request, limit), room=limit)
        stream = serving.value(request, "streaming", False)
        asked = {name for name in ("log_probs", "num_input_tokens", "num_output_tokens") if _asks(request, name)}
        new, made, logprobs = b"", 0, []
        if not serving.value(request, "exclude_input_in_output", False) and not stream:
            new = prompt
        while True:
            await asyncio.sleep(self._delay_s)
            serving.raise_if_cancelled(sender)
            step = writer.step()
            piece = step.text.encode()[: limit - made]
            made += len(piece)
            logprobs += [step.chosen.logprob] + [0.0] * (len(piece) - 1)
            new += piece
            stopped = self._stopped[request.request_id()]
            done = writer.finish_reason is not None or made >= limit or stopped
            if stream or done:
                serving.send(sender, _outputs(new, logprobs, len(prompt), asked), final=done)
                new = b""
            if done:
                return


def _asks(request, name):
    return serving.value(request, f"return_{name}", False)


def _sampling(request, limit):
    given = {name: serving.value(request, tensor) for tensor, name in _SAMPLING.items()}
    if all(given[name] is None for name in ("top_p", "top_k", "temperature")):
        given["top_k"] = 1
    return SamplingParams.from_mapping(given | {"max_tokens": limit})


def _outputs(ids, logprobs, prompt_length, asked):
    outputs = {
        "output_ids": np.array([[list(ids)]], np.int32).reshape(1, 1, len(ids)),
        "sequence_length": np.array([[len(ids)]], np.int32),
    }
    if "log_probs" in asked:
        outputs["output_log_probs"] = np.array([[logprobs]], np.float32)
    if "num_input_tokens" in asked:
        outputs["num_input_tokens"] = np.array([[prompt_length]], np.int32)
    if "num_output_tokens" in asked:
        outputs["num_output_tokens"] = np.array([[len(ids)]], np.int32)
    return outputs
