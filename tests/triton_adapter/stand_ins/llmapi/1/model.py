"""The tiny language model behind the tensors of TensorRT-LLM's LLM API model.

As there: every message repeats the text so far, the last one carries the final flag, and a second request of the same
id with `stop` ends the first, which then fails as cancelled.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[5] / "triton_adapter/embedded/model_code"))

import triton_python_backend_utils as pb_utils
from tiny import serving
from tiny.generation import Generation
from tiny.language import LanguageModel
from tiny.sampling import SamplingParams

_SAMPLING = ("temperature", "top_k", "top_p", "frequency_penalty", "presence_penalty", "max_tokens", "seed")


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._model = LanguageModel()
        self._delay_s = float(serving.setting(args, "TOKEN_DELAY_MS", "5")) / 1000
        self._requests = serving.RequestLoop(self._serve, answer_error=_answer_error)
        self._stopped = set()

    async def _serve(self, request, sender):
        if serving.value(request, "stop", False):
            self._stopped.add(request.request_id())
            serving.send_error(sender, "Request cancelled by client", code=pb_utils.TritonError.CANCELLED)
            return
        self._stopped.discard(request.request_id())
        prompts = serving.values(request, "text_input")
        if len(prompts) != 1:
            raise ValueError(f"expected one prompt, got {len(prompts)}")
        await self._generate(request, sender, prompts[0].decode())

    async def _generate(self, request, sender, prompt):
        sampling = {name: serving.value(request, f"sampling_param_{name}") for name in _SAMPLING}
        stop = [word.decode() for word in serving.values(request, "sampling_param_stop")]
        writer = Generation(
            self._model, self._model.encode(prompt), SamplingParams.from_mapping(sampling | {"stop": stop}), room=2048
        )
        stream = serving.value(request, "streaming", False)
        text = "" if stream or serving.value(request, "sampling_param_exclude_input_from_output", False) else prompt
        while writer.finish_reason is None:
            await asyncio.sleep(self._delay_s)
            serving.raise_if_cancelled(sender)
            if request.request_id() in self._stopped:
                raise RuntimeError("Request cancelled by client")
            text += writer.step().text
            if stream or writer.finish_reason:
                outputs = {"text_output": serving.strings(text)}
                if serving.value(request, "return_finish_reason", False):
                    outputs["finish_reason"] = serving.strings(str(writer.finish_reason))
                serving.send(sender, outputs, final=writer.finish_reason is not None)


def _answer_error(sender, error):
    serving.send_error(sender, f"Error generating request: {error}")
