"""The rules of `tool_model` behind the vLLM backend's tensors, token by token."""

import asyncio
import json
import random
import sys
from itertools import chain, repeat
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(Path(__file__).resolve().parents[6] / "triton_adapter" / "embedded" / "model_code"))

from tiny import serving
from tiny.constraint import constrained_text
from tiny.language import tokenize
from tiny.sampling import SamplingParams
from tool_model.answer import answer


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._delay_s = float(serving.setting(args, "TOKEN_DELAY_MS", "2")) / 1000
        self._max_model_len = int(serving.setting(args, "MAX_MODEL_LEN", "4096"))
        self._requests = serving.RequestLoop(self._generate, answer_error=_answer_error)

    async def _generate(self, request, sender):
        prompt = serving.value(request, "text_input")
        stream = serving.value(request, "stream", False)
        echo = not serving.value(request, "exclude_input_in_output", stream)
        params = SamplingParams.from_mapping(json.loads(serving.value(request, "sampling_parameters") or "{}"))
        tokens_in = len(tokenize(prompt))
        self._check_length(tokens_in)
        asked = {name for name in _FIGURES if serving.value(request, f"return_{name}", False)}
        whole, count = prompt if echo else "", 0
        for text, reason in _pieces(prompt, params, self._max_model_len - tokens_in):
            await asyncio.sleep(self._delay_s)
            serving.raise_if_cancelled(sender)
            count += 1
            whole += text
            if stream:
                serving.send(sender, _outputs(text, reason, tokens_in, 1, asked), final=reason is not None)
        if not stream:
            serving.send(sender, _outputs(whole, reason, tokens_in, count, asked), final=True)

    def _check_length(self, length):
        if length == 0:
            raise ValueError("The decoder prompt cannot be empty")
        if length >= self._max_model_len:
            raise ValueError(
                f"This model's maximum context length is {self._max_model_len} tokens. However, your request has "
                f"{length} input tokens. Please reduce the length of the input messages."
            )


_FIGURES = ("finish_reason", "num_input_tokens", "num_output_tokens")


def _pieces(prompt, params, room):
    """Each token, and with the last one why there are no more."""
    text = _text(prompt, params.structured_outputs)
    cuts = [at for stop in params.stop if (at := text.find(stop)) >= 0]
    if cuts:
        text = text[: min(cuts)]
    words = tokenize(text) or [""]
    limit = min(params.max_tokens, room)
    if params.ignore_eos and len(words) < limit and not cuts:
        words = chain(words, repeat(" on", limit - len(words)))
    elif len(words) <= limit:
        yield from ((word, None) for word in words[:-1])
        yield words[-1], "stop"
        return
    for at, word in enumerate(words, start=1):
        yield word, "length" if at == limit else None
        if at == limit:
            return


def _text(prompt, constraint):
    if not constraint:
        return answer(prompt)
    if "json" in constraint:
        schema = constraint["json"]
        return answer(prompt, json.loads(schema) if isinstance(schema, str) else schema)
    if constraint.get("json_object"):
        return answer(prompt, {})
    return constrained_text(constraint, random.Random(0))


def _outputs(text, reason, tokens_in, tokens_out, asked):
    made = {
        "finish_reason": serving.strings(str(reason)),
        "num_input_tokens": np.asarray(tokens_in, np.uint32),
        "num_output_tokens": np.array([tokens_out], np.uint32),
    }
    return {"text_output": serving.strings(text)} | {name: made[name] for name in asked}


def _answer_error(sender, error):
    serving.send_error(sender, f"Error generating stream: {error}")
