"""The tiny language model behind the vLLM backend's tensors: what it takes, what it answers and how it fails.

Sampling parameters come as JSON in `sampling_parameters`, or else as request parameters; a name that vLLM does not
know fails the request with the same opaque text as there. `extra_args: {"token_delay_ms": 0}` sets the pace.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from . import serving
from .generation import Generation, Step
from .language import LanguageModel
from .sampling import SamplingParams


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args: Mapping[str, str]) -> None:
        self._model = LanguageModel()
        self._delay_ms = float(serving.setting(args, "TOKEN_DELAY_MS", "5"))
        self._max_model_len = int(serving.setting(args, "MAX_MODEL_LEN", "2048"))
        self._default_max_tokens = int(serving.setting(args, "DEFAULT_MAX_TOKENS", "16"))  # vLLM's
        self._requests = serving.RequestLoop(self._generate, answer_error=_answer_error)

    def said(self, prompt: str) -> str | None:
        """Return what is said after a prompt in place of what the language model would; `None` leaves it to that."""
        return None

    async def _generate(self, request: Any, sender: Any) -> None:
        prompt = serving.value(request, "text_input")
        stream = serving.value(request, "stream", False)
        exclude_input = serving.value(request, "exclude_input_in_output", stream)
        if stream and not exclude_input:
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        params = _sampling_params(request, self._default_max_tokens)
        prompt_ids = self._model.encode(prompt)
        self._check_length(len(prompt_ids))
        answer = Answer(request, len(prompt_ids), params.logprobs is not None)

        room = self._max_model_len - len(prompt_ids)
        said = self.said(prompt)
        writers = [Generation(self._model, prompt_ids, params, room=room, index=i, said=said) for i in range(params.n)]
        delay_s = float(params.extra_args.get("token_delay_ms", self._delay_ms)) / 1000
        whole: list[list[Step]] = [[] for _ in writers]
        while any(writer.finish_reason is None for writer in writers):
            await asyncio.sleep(delay_s)
            serving.raise_if_cancelled(sender)
            steps = [[] if writer.finish_reason else [writer.step()] for writer in writers]
            if stream:
                done = all(writer.finish_reason for writer in writers)
                serving.send(sender, answer.tensors(writers, steps), final=done)
            else:
                whole = [old + new for old, new in zip(whole, steps, strict=True)]
        if not stream:
            serving.send(sender, answer.tensors(writers, whole, echo="" if exclude_input else prompt), final=True)

    def _check_length(self, length: int) -> None:
        if length == 0:
            raise ValueError("The decoder prompt cannot be empty")
        if length >= self._max_model_len:
            raise ValueError(
                f"This model's maximum context length is {self._max_model_len} tokens. However, your request has "
                f"{length} input tokens. Please reduce the length of the input messages."
            )


class Answer:
    """Make the output tensors of one message: what is new in each sequence, and the extras that were asked for."""

    def __init__(self, request: Any, prompt_length: int, with_logprobs: bool) -> None:
        self._prompt_length = prompt_length
        self._with_logprobs = with_logprobs
        names = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens", "num_output_tokens")
        self._asked = {name for name in names if serving.value(request, f"return_{name}", False)}

    def tensors(
        self, writers: Sequence[Generation], steps: Sequence[Sequence[Step]], echo: str = ""
    ) -> dict[str, NDArray[Any]]:
        made: dict[str, Callable[[], NDArray[Any]]] = {
            "finish_reason": lambda: serving.strings(*(str(writer.finish_reason) for writer in writers)),
            "cumulative_logprob": lambda: np.array([writer.cumulative_logprob for writer in writers], np.float32),
            "logprobs": lambda: serving.strings(*(self._logprobs(new) for new in steps)),
            "num_input_tokens": lambda: np.asarray(self._prompt_length, np.uint32),
            "num_output_tokens": lambda: np.array([len(new) for new in steps], np.uint32),
        }
        text = serving.strings(*(echo + "".join(step.text for step in new) for new in steps))
        return {"text_output": text} | {name: made[name]() for name in made if name in self._asked}

    def _logprobs(self, steps: Sequence[Step]) -> str:
        if not self._with_logprobs:
            return "null"
        return json.dumps(
            [
                {
                    str(token.token_id): {"logprob": token.logprob, "rank": token.rank, "decoded_token": token.text}
                    for token in step.alternatives
                }
                for step in steps
            ]
        )


def _sampling_params(request: Any, max_tokens: int) -> SamplingParams:
    given = serving.value(request, "sampling_parameters")
    try:
        values = serving.parameters(request) if given is None else json.loads(given)
        return SamplingParams.from_mapping({"max_tokens": max_tokens} | values)
    except (ValueError, TypeError, AttributeError) as error:
        # The vLLM backend logs the reason, goes on with None, and trips over that.
        pb_utils.Logger.log_error(f"sampling parameters refused: {error}")
        raise ValueError("'NoneType' object has no attribute 'lora_name'") from error


def _answer_error(sender: Any, error: object) -> None:
    serving.send_error(sender, f"Error generating stream: {error}")
