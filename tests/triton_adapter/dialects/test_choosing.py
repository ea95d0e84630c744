"""Which dialect each family is found to speak, what it then promises, and what users may say instead."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import Capability, ConfigurationError, Unsupported
from tests.triton_adapter.dialects.models import decode, encode, reply, schema, sent, text
from triton_adapter.dialects import choose_dialect
from triton_adapter.dialects.layout import LayoutDialect
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.settings import ModelOverride

BASE = {Capability.TEXT, Capability.MESSAGES, Capability.STOP, Capability.CONTINUE_FINAL_MESSAGE}


@pytest.mark.parametrize(
    "golden, dialect, reason",
    [
        ("vllm", "vllm", "vLLM backend does"),
        ("vllm_24_10", "vllm", "from before 24.12"),
        ("trtllm_ensemble", "trtllm", "ensemble"),
        ("trtllm_ensemble_v0_9", "trtllm", "ensemble"),
        ("trtllm_bls", "trtllm_bls", "BLS"),
        ("trtllm_llmapi", "trtllm_llmapi", "LLM API"),
        ("prompt_to_text", "generic", "takes one text"),
    ],
)
def test_a_model_is_known_by_what_it_declares(golden: str, dialect: str, reason: str) -> None:
    choice = choose_dialect(schema(golden))

    assert choice.dialect.name == dialect
    assert reason in choice.reason


@pytest.mark.parametrize(
    "golden, more",
    [
        ("vllm", "streaming seed logprobs response_format usage finish_reason"),
        ("vllm_24_10", "streaming seed"),
        ("trtllm_ensemble", "streaming seed logprobs response_format usage"),
        ("trtllm_ensemble_v0_9", "seed logprobs"),
        ("trtllm_bls", "streaming seed logprobs response_format usage"),
        ("trtllm_llmapi", "streaming seed finish_reason"),
        ("prompt_to_text", "streaming"),
    ],
)
def test_a_model_promises_only_what_it_declares(golden: str, more: str) -> None:
    model = schema(golden)

    promised = choose_dialect(model).dialect.capabilities(model)

    assert promised == BASE | {Capability(name) for name in more.split()}


@pytest.mark.parametrize("golden", ["vllm", "trtllm_ensemble", "trtllm_llmapi", "prompt_to_text"])
def test_a_model_that_answers_once_does_not_promise_to_stream(golden: str) -> None:
    model = schema(golden, decoupled=False)
    dialect = choose_dialect(model).dialect

    assert Capability.STREAMING not in dialect.capabilities(model)
    assert not encode(model, max_tokens=4).streaming


def test_a_model_without_text_is_refused_with_what_it_has_instead() -> None:
    with pytest.raises(Unsupported, match=r"'detector' takes no text .* images FP32\[1, 3, 640, 640\].* use `infer`"):
        choose_dialect(schema("detector"))


def test_a_model_that_needs_more_than_text_is_refused_by_the_name_of_the_input() -> None:
    model = _model(prompt=("BYTES", (1,)), pixels=("FP32", (3, 224, 224)))

    with pytest.raises(Unsupported, match=r"pixels FP32\[3, 224, 224\] cannot be filled"):
        choose_dialect(model)


def test_two_texts_that_nobody_can_tell_apart_are_refused() -> None:
    model = _model(left=("BYTES", (1,)), right=("BYTES", (1,)))

    with pytest.raises(Unsupported, match=r"takes no text that can be told"):
        choose_dialect(model)


def test_an_optional_text_of_a_known_name_is_the_prompt_where_no_text_is_required() -> None:
    inputs = {
        "lang": TensorSpec("lang", "BYTES", (1,), optional=True),
        "prompt": TensorSpec("prompt", "BYTES", (1,), optional=True),
    }

    choice = choose_dialect(ModelSchema("m", inputs, _outputs("text")))

    assert isinstance(choice.dialect, LayoutDialect)
    assert choice.dialect.layout.prompt == ("prompt",)


@pytest.mark.parametrize(
    "output, field, datatype",
    [
        ("finish_reason", "finish_reason", "INT32"),
        ("num_input_tokens", "tokens_in", "BYTES"),
        ("num_output_tokens", "tokens_out", "FP32"),
    ],
)
def test_an_output_of_another_datatype_is_taken_neither_for_a_reason_nor_for_a_count(
    output: str, field: str, datatype: str
) -> None:
    inputs = {"prompt": TensorSpec("prompt", "BYTES", (1,))}
    outputs = {"text": TensorSpec("text", "BYTES", (1,)), output: TensorSpec(output, datatype, (1,))}
    model = ModelSchema("m", inputs, outputs)

    choice = choose_dialect(model)

    assert isinstance(choice.dialect, LayoutDialect)
    assert getattr(choice.dialect.layout, field) == ()
    with pytest.raises(ConfigurationError, match=rf"models\.m\.outputs\.{field}: output '{output}' is {datatype}"):
        choose_dialect(model, ModelOverride(outputs={field: output}))


def test_an_optional_text_does_not_make_a_tensor_model_a_text_model() -> None:
    model = ModelSchema("m", {"B": TensorSpec("B", "BYTES", (-1,), optional=True)}, _outputs("B_OUT"))

    with pytest.raises(Unsupported):
        choose_dialect(model)


@pytest.mark.parametrize("name", ["text_input", "TEXT", "Prompt", "anything_at_all"])
def test_the_only_text_input_is_the_prompt_whatever_its_name(name: str) -> None:
    model = _model(**{name: ("BYTES", (1,))})

    assert sent(encode(model))[name] == "Hello"


def test_a_known_name_picks_the_prompt_among_several_texts() -> None:
    model = _model(system=("BYTES", (1,)), PROMPT=("BYTES", (1,)))

    assert sent(encode(model, parameters={"triton.system": "Be brief."})) == {"PROMPT": "Hello", "system": "Be brief."}


# -- what the user says

MAP = ModelOverride(
    inputs={"prompt": "Q", "max_tokens": "LIMIT", "seed": "R"},
    outputs={"text": "A", "finish_reason": "WHY", "tokens_out": "N"},
)


def test_a_declared_map_says_where_everything_goes() -> None:
    model = schema("odd_names")

    encoded = encode(model, MAP, max_tokens=7, seed=5)

    assert sent(encoded) == {"Q": "Hello", "LIMIT": 7, "R": 5}
    assert {each.name: each.shape for each in encoded.inputs} == {"Q": (1,), "LIMIT": (1, 1), "R": (1,)}
    assert set(encoded.outputs) == {"A", "WHY", "N"}


def test_a_declared_map_says_what_the_outputs_mean() -> None:
    events, end = decode(schema("odd_names"), [reply(A="Hi", WHY="length", N=3)], MAP, max_tokens=3)

    assert text(events) == "Hi"
    assert end.finish_reason == "length"
    assert end.usage.tokens_out == 3


def test_a_declared_map_is_the_reason_that_is_shown() -> None:
    assert "settings say that its prompt is 'Q'" in choose_dialect(schema("odd_names"), MAP).reason


def test_a_field_can_be_mapped_to_a_request_parameter() -> None:
    override = ModelOverride(inputs={"seed": "parameter:random_state"})
    model = schema("prompt_to_text")

    encoded = encode(model, override, seed=5)

    assert encoded.parameters == {"random_state": 5}
    assert Capability.SEED in choose_dialect(model, override).dialect.capabilities(model)


def test_a_dialect_can_be_told() -> None:
    model = schema("trtllm_ensemble")

    choice = choose_dialect(model, ModelOverride(dialect="trtllm_bls", cumulative=True))

    assert (choice.dialect.name, choice.reason) == ("trtllm_bls", "the settings say so")


@pytest.mark.parametrize(
    "override, message",
    [
        ({"dialect": "klingon"}, r"models\.writer\.dialect: there is no 'klingon'; use vllm, trtllm"),
        ({"inputs": {"prompt": "Q"}}, r"models\.writer\.inputs\.prompt: the model has no input 'Q'; it has prompt"),
        ({"inputs": {"tone": "prompt"}}, r"models\.writer\.inputs: 'tone' cannot be mapped; these can: .*max_tokens"),
        ({"outputs": {"text": "T"}}, r"models\.writer\.outputs\.text: the model has no output 'T'; it has score, text"),
        ({"outputs": {"words": "text"}}, r"'words' cannot be mapped; these can: finish_reason, text"),
    ],
)
def test_a_wrong_override_is_refused_by_its_place_and_with_what_there_is(override: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        choose_dialect(schema("prompt_to_text"), ModelOverride(**override))


def _model(**inputs: tuple[str, tuple[int, ...]]) -> ModelSchema:
    specs = {name: TensorSpec(name, datatype, dims) for name, (datatype, dims) in inputs.items()}
    return ModelSchema("m", specs, _outputs("reply"), backend="python")


def _outputs(name: str) -> dict[str, TensorSpec]:
    return {name: TensorSpec(name, "BYTES", (1,))}
