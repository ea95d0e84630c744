"""The tiny language model behind the tensors of TensorRT-LLM's ensemble.

As there: `max_tokens` is required, every sampling option is a tensor, text comes as deltas, stop words stay in the
text, and nothing says why a generation ended. As in TensorRT-LLM's BLS model, a stream ends with a message that
carries only the final flag, and an error is followed by such a message too.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

from tiny import serving
from tiny.generation import Generation
from tiny.language import LanguageModel
from tiny.sampling import SamplingParams

# Input tensor -> sampling parameter, where there is one element.
_SAMPLING = (
    "max_tokens",
    "min_tokens",
    "top_p",
    "top_k",
    "temperature",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._model = LanguageModel()
        self._delay_s = float(serving.setting(args, "TOKEN_DELAY_MS", "5")) / 1000
        self._max_input_len = int(serving.setting(args, "MAX_INPUT_LEN", "1024"))
        self._requests = serving.RequestLoop(self._generate, answer_error=_answer_error)

    async def _generate(self, request, sender):
        prompt = serving.value(request, "text_input")
        prompt_ids = self._model.encode(prompt)
        if len(prompt_ids) > self._max_input_len:
            raise ValueError(
                f"Prompt length ({len(prompt_ids)}) exceeds maximum input length ({self._max_input_len}). "
                "Set log level to info and check TRTGptModel logs for how maximum input length is set"
            )
        if serving.value(request, "beam_width", 1) > 1 or serving.value(request, "num_return_sequences", 1) > 1:
            raise ValueError("beam_width and num_return_sequences greater than 1 are not supported by this model")
        writer = Generation(self._model, prompt_ids, _sampling_params(request), room=2 * self._max_input_len)
        answer = Answer(request, len(prompt_ids), writer)
        stream = serving.value(request, "stream", False)

        steps = []
        while writer.finish_reason is None:
            await asyncio.sleep(self._delay_s)
            serving.raise_if_cancelled(sender)
            steps.append(writer.step())
            if stream:
                serving.send(sender, answer.tensors(steps))
                steps = []
        if not stream:
            echo = "" if serving.value(request, "exclude_input_in_output", False) else prompt
            serving.send(sender, answer.tensors(steps, echo))
        serving.send_final(sender)


class Answer:
    """Make the output tensors of one message; every one but the text has the batch dimension in front."""

    def __init__(self, request, prompt_length, writer):
        self._prompt_length = prompt_length
        self._writer = writer
        names = ("log_probs", "num_input_tokens", "num_output_tokens")
        self._asked = {name for name in names if serving.value(request, f"return_{name}", False)}

    def tensors(self, steps, echo=""):
        outputs = {"text_output": serving.strings(echo + "".join(step.text for step in steps))}
        outputs["batch_index"] = outputs["sequence_index"] = np.zeros((1, 1), np.int32)
        if "log_probs" in self._asked:
            outputs["cum_log_probs"] = np.array([[self._writer.cumulative_logprob]], np.float32)
            outputs["output_log_probs"] = np.array([[[step.chosen.logprob for step in steps]]], np.float32)
        if "num_input_tokens" in self._asked:
            outputs["num_input_tokens"] = np.array([[self._prompt_length]], np.int32)
        if "num_output_tokens" in self._asked:
            outputs["num_output_tokens"] = np.array([[len(steps)]], np.int32)
        return outputs


def _sampling_params(request):
    sampling = {name: serving.value(request, name) for name in _SAMPLING}
    # Neither given nor asked to be random, TensorRT-LLM takes the likeliest token; top_p 0 means the same.
    if sampling["top_p"] == 0:
        sampling["top_p"] = None
    if all(sampling[name] is None for name in ("top_p", "top_k", "temperature")):
        sampling["top_k"] = 1
    words = {name: [word.decode() for word in serving.values(request, name)] for name in ("stop_words", "bad_words")}
    return SamplingParams.from_mapping(
        sampling
        | {"stop": [word for word in words["stop_words"] if word], "bad_words": words["bad_words"]}
        | {"include_stop_str_in_output": True}
    )


def _answer_error(sender, error):
    serving.send_error(sender, error, final=False)
    serving.send_final(sender)
