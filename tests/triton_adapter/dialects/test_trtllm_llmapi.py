"""Tasks to and from TensorRT-LLM's LLM API model."""

from __future__ import annotations

import pytest

from adapter_api import Capability, InvalidRequest, Token, Unsupported
from tests.triton_adapter.dialects.models import decode, encode, reply, schema, sent
from triton_adapter.dialects import choose_dialect
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


URL = "https://images.example/cat.png"
BY_URL = {"type": "image", "url": URL}
BY_VALUE = {"type": "image", "data": b"x", "media_type": "image/png"}
QUESTION = {"type": "text", "text": "What is it?"}


def test_an_image_goes_as_its_url_beside_the_bare_question_for_the_model_has_the_template() -> None:
    told = sent(encode(LLMAPI, messages=[{"role": "user", "content": [BY_URL, QUESTION]}]))

    assert (told["image_url"], told["text_input"]) == (URL, "What is it?")


def test_a_conversation_with_an_image_keeps_its_turns_apart() -> None:
    turns = [
        {"role": "user", "content": [BY_URL, QUESTION]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And where?"},
    ]

    told = sent(encode(LLMAPI, messages=turns))["text_input"]

    assert told == "user: What is it?\n\nassistant: A cat.\n\nuser: And where?\n\nassistant:"


@pytest.mark.spec("ORCH-3070-012")
@pytest.mark.parametrize("override", [None, ModelOverride(inputs={"images": "image_url"})])
def test_an_image_by_value_is_refused_for_the_model_fetches_urls_only(override: ModelOverride | None) -> None:
    with pytest.raises(Unsupported, match=r"takes http\(s\) URLs, .* give the image by `url`"):
        encode(LLMAPI, override, messages=[{"role": "user", "content": [QUESTION, BY_VALUE]}])


def test_that_it_looks_at_images_is_promised_only_where_the_settings_say_so() -> None:
    unsure = choose_dialect(LLMAPI).dialect
    told = choose_dialect(LLMAPI, ModelOverride(inputs={"images": "image_url"})).dialect

    assert Capability.IMAGE_URLS in unsure.uncertain(LLMAPI) - unsure.capabilities(LLMAPI)
    assert Capability.IMAGE_URLS in told.capabilities(LLMAPI) - told.uncertain(LLMAPI)
    assert Capability.IMAGES not in told.capabilities(LLMAPI) | unsure.uncertain(LLMAPI)


def test_the_text_so_far_is_turned_into_deltas_and_the_reason_is_the_engines() -> None:
    said = [("One", "None"), ("One two", "None"), ("One two", "stop")]

    events, end = decode(LLMAPI, [reply(text_output=piece, finish_reason=reason) for piece, reason in said])

    assert events == [Token(0, "One"), Token(1, " two")]
    assert end.finish_reason == "stop"
    assert end.usage.tokens_out is None
