"""Calls `tensorrt_llm` and joins its ids, as TensorRT-LLM's BLS model does.

So that every message repeats the text so far, with U+FFFD where a character is not complete, and the last message
carries only the final flag. The child request has an id of its own and hears of no cancel.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[5] / "triton_adapter/embedded/model_code"))

import triton_python_backend_utils as pb_utils
from tiny import serving

_PASSED_ON = {"top_k": "runtime_top_k", "top_p": "runtime_top_p", "temperature": "temperature", "seed": "seed"}


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._requests = serving.RequestLoop(self._serve)

    async def _serve(self, request, sender):
        ids = b""
        for answer in await self._child(request).async_exec(decoupled=True):
            if answer.has_error():
                raise RuntimeError(answer.error().message())
            if not answer.output_tensors():
                continue
            new = pb_utils.get_output_tensor_by_name(answer, "output_ids").as_numpy().reshape(-1)
            ids += bytes(new.tolist())
            serving.raise_if_cancelled(sender)
            outputs = {"text_output": serving.strings(ids.decode(errors="replace"))}
            if serving.value(request, "return_num_output_tokens", False):
                outputs["num_output_tokens"] = np.array([[len(new)]], np.int32)
            serving.send(sender, outputs)
        serving.send_final(sender)

    def _child(self, request):
        prompt = serving.value(request, "text_input").encode()
        inputs = [
            pb_utils.Tensor("input_ids", np.array([list(prompt)], np.int32)),
            pb_utils.Tensor("input_lengths", np.array([[len(prompt)]], np.int32)),
            pb_utils.Tensor("request_output_len", np.array([[serving.value(request, "max_tokens")]], np.int32)),
            pb_utils.Tensor("streaming", np.array([[serving.value(request, "stream", False)]])),
            pb_utils.Tensor("exclude_input_in_output", np.array([[True]])),
        ]
        for name, theirs in _PASSED_ON.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                inputs.append(pb_utils.Tensor(theirs, tensor.as_numpy()))
        return pb_utils.InferenceRequest(
            model_name="tensorrt_llm", inputs=inputs, requested_output_names=["output_ids", "sequence_length"]
        )
