"""The tensors that the model families of Triton declare, as ModelConfigs.

Each table has one tensor per line: name, datatype, dimensions; a `?` after the name makes it optional.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from adapter_api.errors import ConfigurationError
from triton_adapter.wire import v2_pb2 as v2

Signature = Literal["text", "vllm", "vllm_before_24_12", "trtllm", "trtllm_bls", "trtllm_llmapi", "tensorrt_llm"]

_VLLM_OLD = """
text_input              BYTES 1
stream?                 BOOL  1
sampling_parameters?    BYTES 1
exclude_input_in_output? BOOL 1
"""
_VLLM = f"""
{_VLLM_OLD}
image?                     BYTES -1
return_finish_reason?      BOOL 1
return_cumulative_logprob? BOOL 1
return_logprobs?           BOOL 1
return_num_input_tokens?   BOOL 1
return_num_output_tokens?  BOOL 1
"""
_VLLM_OUT = """
text_output        BYTES  -1
finish_reason      BYTES  -1
cumulative_logprob FP32   -1
logprobs           BYTES  -1
num_input_tokens   UINT32 1
num_output_tokens  UINT32 -1
"""
_TRTLLM = """
text_input                  BYTES 1
decoder_text_input?         BYTES 1
max_tokens                  INT32 1
num_return_sequences?       INT32 1
bad_words?                  BYTES -1
stop_words?                 BYTES -1
exclude_input_in_output?    BOOL  1
end_id?                     INT32 1
pad_id?                     INT32 1
top_k?                      INT32 1
top_p?                      FP32  1
temperature?                FP32  1
length_penalty?             FP32  1
repetition_penalty?         FP32  1
min_tokens?                 INT32 1
presence_penalty?           FP32  1
frequency_penalty?          FP32  1
{seed}?                     UINT64 1
return_log_probs?           BOOL  1
return_context_logits?      BOOL  1
return_generation_logits?   BOOL  1
return_perf_metrics?        BOOL  1
return_num_input_tokens?    BOOL  1
return_num_output_tokens?   BOOL  1
beam_width?                 INT32 1
stream?                     BOOL  1
lora_task_id?               UINT64 1
guided_decoding_guide_type? BYTES 1
guided_decoding_guide?      BYTES 1
"""
_TRTLLM_OUT = """
text_output       BYTES -1
cum_log_probs     FP32  -1
output_log_probs  FP32  -1,-1
batch_index       INT32 1
sequence_index    INT32 1
num_input_tokens  INT32 1
num_output_tokens INT32 1
"""
_RAW = """
input_ids                INT32 -1
input_lengths            INT32 1
request_output_len       INT32 1
end_id?                  INT32 1
pad_id?                  INT32 1
beam_width?              INT32 1
temperature?             FP32  1
runtime_top_k?           INT32 1
runtime_top_p?           FP32  1
len_penalty?             FP32  1
repetition_penalty?      FP32  1
presence_penalty?        FP32  1
frequency_penalty?       FP32  1
{seed}?                  UINT64 1
exclude_input_in_output? BOOL  1
return_log_probs?        BOOL  1
stop?                    BOOL  1
streaming?               BOOL  1
"""
_RAW_OUT = """
output_ids       INT32 -1,-1
sequence_length  INT32 -1
cum_log_probs    FP32  -1
output_log_probs FP32  -1,-1
"""
_LLMAPI = """
text_input                                BYTES -1
streaming?                                BOOL  1
stop?                                     BOOL  1
sampling_param_best_of?                   INT32 1
sampling_param_temperature?               FP32  1
sampling_param_top_k?                     INT32 1
sampling_param_top_p?                     FP32  1
sampling_param_frequency_penalty?         FP32  1
sampling_param_presence_penalty?          FP32  1
sampling_param_max_tokens?                INT32 1
sampling_param_stop?                      BYTES -1
sampling_param_seed?                      UINT64 1
sampling_param_exclude_input_from_output? BOOL 1
sampling_param_return_perf_metrics?       BOOL  1
return_finish_reason?                     BOOL  1
return_stop_reason?                       BOOL  1
return_cumulative_logprob?                BOOL  1
"""
_LLMAPI_OUT = """
text_output        BYTES -1
finish_reason      BYTES -1
stop_reason        BYTES -1
cumulative_logprob FP32  -1
"""


def config_of(signature: Signature, name: str, *, decoupled: bool, max_batch_size: int, seed: str) -> v2.ModelConfig:
    """Return the ModelConfig of a model of that family, as the server would report it."""
    try:
        make = _MAKERS[signature]
    except KeyError:
        known = ", ".join(get_args(Signature))
        raise ConfigurationError(f"no signature {signature!r} of a model; there are {known}") from None
    config = make(max_batch_size, seed)
    config.name = name
    config.model_transaction_policy.decoupled = decoupled
    return config


def family_of(config: v2.ModelConfig) -> Signature:
    """Return the family whose tensors these are; "text" when it is none of them."""
    inputs = {tensor.name for tensor in config.input}
    if "sampling_parameters" in inputs:
        return "vllm" if "return_finish_reason" in inputs else "vllm_before_24_12"
    if "sampling_param_max_tokens" in inputs:
        return "trtllm_llmapi"
    if "input_ids" in inputs:
        return "tensorrt_llm"
    if {"text_input", "max_tokens", "end_id"} <= inputs:
        return "trtllm" if config.platform == "ensemble" else "trtllm_bls"
    return "text"


def with_defaults(config: v2.ModelConfig) -> v2.ModelConfig:
    """Return `config` with what the server adds on loading it."""
    filled = v2.ModelConfig()
    filled.CopyFrom(config)
    if not filled.backend and not filled.platform:
        filled.backend = "python"
    if not filled.HasField("version_policy"):
        filled.version_policy.latest.num_versions = 1
    if not filled.instance_group:
        filled.instance_group.add(count=1, kind=v2.ModelInstanceGroup.KIND_CPU)
    for index, group in enumerate(filled.instance_group):
        group.name = group.name or f"{filled.name}_{index}"
    if filled.backend == "python" and not filled.default_model_filename:
        filled.default_model_filename = "model.py"
    if filled.max_batch_size > 1 and filled.WhichOneof("scheduling_choice") == "dynamic_batching":
        if not filled.dynamic_batching.preferred_batch_size:
            filled.dynamic_batching.preferred_batch_size.append(filled.max_batch_size)
    return filled


def _text(max_batch_size: int, seed: str) -> v2.ModelConfig:
    return _config("python", max_batch_size, "text_input BYTES 1", "text_output BYTES -1")


def _vllm(max_batch_size: int, seed: str) -> v2.ModelConfig:
    return _config("vllm", 0, _VLLM, _VLLM_OUT)


def _vllm_before_24_12(max_batch_size: int, seed: str) -> v2.ModelConfig:
    return _config("vllm", 0, _VLLM_OLD, "text_output BYTES -1")


def _trtllm(max_batch_size: int, seed: str) -> v2.ModelConfig:
    config = _config("", max_batch_size or 1, _TRTLLM.format(seed=seed), _TRTLLM_OUT)
    config.platform = "ensemble"
    for step in ("preprocessing", "tensorrt_llm", "postprocessing"):
        config.ensemble_scheduling.step.add(model_name=step, model_version=-1)
    return config


def _trtllm_bls(max_batch_size: int, seed: str) -> v2.ModelConfig:
    config = _config("python", max_batch_size or 1, _TRTLLM.format(seed=seed), _TRTLLM_OUT)
    config.parameters["accumulate_tokens"].string_value = "false"
    config.parameters["tensorrt_llm_model_name"].string_value = "tensorrt_llm"
    return config


def _trtllm_llmapi(max_batch_size: int, seed: str) -> v2.ModelConfig:
    return _config("python", 0, _LLMAPI, _LLMAPI_OUT)


def _tensorrt_llm(max_batch_size: int, seed: str) -> v2.ModelConfig:
    return _config("tensorrtllm", max_batch_size or 1, _RAW.format(seed=seed), _RAW_OUT)


_MAKERS: dict[Signature, Callable[[int, str], v2.ModelConfig]] = {
    "text": _text,
    "vllm": _vllm,
    "vllm_before_24_12": _vllm_before_24_12,
    "trtllm": _trtllm,
    "trtllm_bls": _trtllm_bls,
    "trtllm_llmapi": _trtllm_llmapi,
    "tensorrt_llm": _tensorrt_llm,
}


def _config(backend: str, max_batch_size: int, inputs: str, outputs: str) -> v2.ModelConfig:
    config = v2.ModelConfig(backend=backend, max_batch_size=max_batch_size)
    for name, datatype, dims in _rows(inputs):
        optional = name.endswith("?")
        config.input.add(name=name.removesuffix("?"), data_type=_datatype(datatype), dims=dims, optional=optional)
    for name, datatype, dims in _rows(outputs):
        config.output.add(name=name, data_type=_datatype(datatype), dims=dims)
    return config


def _rows(table: str) -> list[tuple[str, str, list[int]]]:
    rows = [line.split() for line in table.strip().splitlines() if line.strip()]
    return [(name, datatype, [int(dim) for dim in dims.split(",")]) for name, datatype, dims in rows]


def _datatype(name: str) -> int:
    return v2.DataType.Value(f"TYPE_{'STRING' if name == 'BYTES' else name}")
