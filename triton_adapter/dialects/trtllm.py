"""TensorRT-LLM with text in and out: the `ensemble` and `tensorrt_llm_bls` models of its Triton backend, and `llmapi`.

Nothing in the first two says why a text ended. Where they count tokens, `length` is told from reaching `max_tokens`;
everything else is `unknown`.
"""

from __future__ import annotations

from adapter_api import ProtocolViolation
from triton_adapter.codec import read_numbers
from triton_adapter.dialects.decoding import Outputs, Score
from triton_adapter.dialects.layout import Asked, Layout, LayoutDialect
from triton_adapter.dialects.request import RequestBuilder

ENSEMBLE = Layout(
    prompt=("text_input",),
    text=("text_output",),
    fields={
        "max_tokens": ("max_tokens",),
        # Releases before 0.20 say `min_length` and `random_seed`.
        "min_tokens": ("min_tokens", "min_length"),
        "temperature": ("temperature",),
        "top_p": ("top_p",),
        "top_k": ("top_k",),
        "seed": ("seed", "random_seed"),
        "presence_penalty": ("presence_penalty",),
        "frequency_penalty": ("frequency_penalty",),
        "repetition_penalty": ("repetition_penalty",),
    },
    stop=("stop_words",),
    stream=("stream", "streaming"),
    without_echo=("exclude_input_in_output",),
    tokens_in=(Asked("return_num_input_tokens", "num_input_tokens"),),
    tokens_out=(Asked("return_num_output_tokens", "num_output_tokens"),),
    logprobs=(Asked("return_log_probs", "output_log_probs"),),
    guide=("guided_decoding_guide_type", "guided_decoding_guide"),
)

LLMAPI = Layout(
    prompt=("text_input",),
    text=("text_output",),
    fields={
        name: (f"sampling_param_{name}",)
        for name in ("max_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")
    },
    stop=("sampling_param_stop",),
    stream=("streaming", "stream"),
    without_echo=("sampling_param_exclude_input_from_output",),
    images=("image_url",),
    finish_reason=(Asked("return_finish_reason", "finish_reason"),),
)


class LogprobTrack:
    """Reads `output_log_probs`, one number per token; some versions repeat those of earlier replies."""

    __slots__ = ("_output", "_seen")

    def __init__(self, output: str) -> None:
        self._output = output
        self._seen: tuple[float, ...] = ()

    def __call__(self, outputs: Outputs) -> Score:
        tensor = outputs.get(self._output)
        if tensor is None:
            return Score()
        values = read_numbers(tensor)
        if len(tensor.shape) > 1 and tensor.shape[-2] > 1:
            raise ProtocolViolation("the engine sent the logprobs of several beams; a task has one")
        repeats = len(values) > len(self._seen) and values[: len(self._seen)] == self._seen
        new = values[len(self._seen) :] if repeats else values
        self._seen = values
        return Score(sum(new)) if new else Score()


def ensemble_dialect(*, bls: bool, cumulative: bool) -> LayoutDialect:
    """Return the dialect of the ensemble, or of the BLS model that can stand in its place.

    Args:
        bls: It is the BLS model.
        cumulative: The BLS model was configured to `accumulate_tokens`.
    """
    name = "trtllm_bls" if bls else "trtllm"
    return LayoutDialect(name, ENSEMBLE, cumulative=cumulative, read_logprobs=LogprobTrack)


class LlmapiDialect(LayoutDialect):
    """The LLM API's model. With images it applies the model's chat template, and the marks for them, itself."""

    def _put_prompt(self, request: RequestBuilder) -> None:
        messages = request.task.messages or ()
        if request.task.images and len(messages) == 1:
            request.put(self.layout.prompt, messages[0].text)
        else:
            super()._put_prompt(request)


def llmapi_dialect() -> LayoutDialect:
    """Return the dialect of the LLM API's model, which repeats the text so far in every reply.

    It takes images if its `triton_config` says `multimodal: True`, and ignores them otherwise: nothing tells which.
    """
    return LlmapiDialect("trtllm_llmapi", LLMAPI, cumulative=True, may_ignore_images=True)
