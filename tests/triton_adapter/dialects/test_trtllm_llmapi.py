"""Tasks to and from TensorRT-LLM's LLM API model."""

from __future__ import annotations

import pytest

from adapter_api import InvalidRequest, Token, Unsupported
from tests.triton_adapter.dialects.models import decode, encode, reply, schema, sent
from triton_adapter.settings import ModelOverride

LLMAPI = schema("trtllm_llmapi")


def test_options_go_to_their_own_tensors_and_the_prompt_has_one_dimension() -> None:
    encoded = encode(LLMAPI, max_tokens=9, temperature=0.5, top_p=0.75, top_k=3, seed=5, stop=["a", "b"])

    assert sent(encoded) == {
        "text_input": "Hello",
        "sampling_param_max_tokens": 9,
        "sampling_param_temperature": 0.5,
        "sampling_param_top_p": 0.75,
        "sampling_param_top_k": 3,
        "sampling_param_seed": 5,
        "sampling_param_stop": ["a", "b"],
        "streaming": True,
        "sampling_param_exclude_input_from_output": True,
        "return_finish_reason": True,
    }
    assert {each.shape for each in encoded.inputs if each.name != "sampling_param_stop"} == {(1,)}


@pytest.mark.parametrize("field", ["presence_penalty", "frequency_penalty"])
def test_penalties_have_tensors(field: str) -> None:
    assert sent(encode(LLMAPI, **{field: 0.5}))[f"sampling_param_{field}"] == 0.5


@pytest.mark.parametrize("field, value", [("min_tokens", 1), ("repetition_penalty", 1.5), ("logprobs", 0)])
def test_what_it_has_no_tensor_for_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(Unsupported, match=f"'tensorrt_llm' has no place for `{field}`"):
        encode(LLMAPI, **{field: value})


def test_a_model_that_answers_once_is_told_not_to_stream() -> None:
    assert sent(encode(schema("trtllm_llmapi", decoupled=False)))["streaming"] is False


def test_a_lora_is_three_parameters() -> None:
    parameters = {"triton.lora_id": 1, "triton.lora_name": "poet", "triton.lora_path": "/loras/poet"}

    values = sent(encode(LLMAPI, parameters=parameters))

    assert (values["lora_id"], values["lora_name"], values["lora_path"]) == (1, "poet", "/loras/poet")


def test_more_than_one_completion_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be 1"):
        encode(LLMAPI, parameters={"triton.sampling_param_best_of": 2})


def test_images_are_refused_unless_the_settings_say_that_the_model_looks_at_them() -> None:
    messages = [{"role": "user", "content": [{"type": "image", "data": b"x", "media_type": "image/png"}]}]

    with pytest.raises(Unsupported, match="no place for images"):
        encode(LLMAPI, messages=messages)
    told = encode(LLMAPI, ModelOverride(inputs={"images": "image_url"}), messages=messages)

    assert sent(told)["image_url"] == "data:image/png;base64,eA=="


def test_the_text_so_far_is_turned_into_deltas_and_the_reason_is_the_engines() -> None:
    said = [("One", "None"), ("One two", "None"), ("One two", "stop")]

    events, end = decode(LLMAPI, [reply(text_output=piece, finish_reason=reason) for piece, reason in said])

    assert events == [Token(0, "One"), Token(1, " two")]
    assert end.finish_reason == "stop"
    assert end.usage.tokens_out is None
