"""Tasks to and from models that people write themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapter_api import Capability, InvalidRequest, Token, Unsupported
from tests.triton_adapter.dialects.models import decode, encode, reply, schema, sent, text
from triton_adapter.dialects import choose_dialect
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.settings import ModelOverride

WRITER = schema("prompt_to_text")


def test_options_that_have_no_tensor_go_as_request_parameters() -> None:
    encoded = encode(WRITER, max_tokens=5, temperature=0.5, parameters={"triton.tone": "friendly"})

    assert sent(encoded) == {"prompt": "Hello"}
    assert encoded.parameters == {"max_tokens": 5, "temperature": 0.5, "tone": "friendly"}
    assert encoded.outputs == ("text",)


def test_options_that_have_a_tensor_go_there_cast_to_what_it_declares() -> None:
    model = _model(
        max_new_tokens=("INT64", (1,)), TEMPERATURE=("FP16", (1,)), random_seed=("INT32", (1, 1)), top_k=("BYTES", (1,))
    )

    encoded = encode(model, max_tokens=5, temperature=0.5, seed=7, top_k=3)

    assert sent(encoded) == {"prompt": "Hello", "max_new_tokens": 5, "TEMPERATURE": 0.5, "random_seed": 7, "top_k": "3"}
    assert encoded.parameters == {}
    assert {each.name: each.datatype for each in encoded.inputs}["TEMPERATURE"] == "FP16"


def test_a_value_that_the_tensor_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="input 'random_seed' does not fit its datatype INT32"):
        encode(_model(random_seed=("INT32", (1,))), seed=2**40)


def test_stream_echo_and_stop_inputs_are_used_where_there_are_any() -> None:
    model = _model(streaming=("BOOL", (1,)), exclude_input_in_output=("BOOL", (1,)), stop=("BYTES", (-1,)))

    values = sent(encode(model, stop=["a", "b"]))

    assert values == {"prompt": "Hello", "streaming": True, "exclude_input_in_output": True, "stop": ["a", "b"]}


def test_an_input_called_stop_that_is_no_text_is_left_alone() -> None:
    assert sent(encode(_model(stop=("BOOL", (1,))), stop=["a"])) == {"prompt": "Hello"}


@pytest.mark.parametrize("fields", [{"seed": 1}, {"logprobs": 0}, {"response_format": {"type": "json"}}])
def test_what_cannot_be_relied_upon_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=f"'writer' has no place for `{next(iter(fields))}`; its inputs are prompt"):
        encode(WRITER, **fields)


def test_a_model_that_never_sees_request_parameters_refuses_what_has_no_tensor() -> None:
    model = schema("prompt_to_text", backend="onnxruntime")

    with pytest.raises(Unsupported, match="no place for `max_tokens`"):
        encode(model, max_tokens=5)
    with pytest.raises(InvalidRequest, match=r"has no input for parameter 'triton\.tone'"):
        encode(model, parameters={"triton.tone": "friendly"})


def test_a_required_input_that_no_field_fills_is_missed_by_name() -> None:
    model = _model(optional=False, style=("BYTES", (1,)))

    with pytest.raises(InvalidRequest, match=r"needs input 'style', which no field .* as parameter 'triton\.style'"):
        encode(model)
    assert sent(encode(model, parameters={"triton.style": "plain"}))["style"] == "plain"


# -- answers


def pieces(*texts: str | bytes) -> list[Any]:
    return [reply(text=each) for each in texts]


@pytest.mark.parametrize(
    "said, shown",
    [
        (["One", " two", " three"], ["One", " two", " three"]),
        (["One", "One two", "One two three"], ["One", " two three"]),
        (["One", "One two"], ["One", " two"]),
        (["tick ", "tick ", "tick "], ["tick ", "tick ", "tick "]),
        (["a", "ab", "c"], ["a", "abc"]),
        (["", "One", "One two", "One two", "One two three"], ["One", " two three"]),
        (["b", "ba", "ba", "a"], ["b", "babaa"]),
        (["One", "One two", "One two"], ["One", " two"]),
        (["One"], ["One"]),
        ([], []),
    ],
)
def test_deltas_and_repeated_texts_are_told_apart(said: list[str], shown: list[str]) -> None:
    events, end = decode(WRITER, pieces(*said))

    assert events == [Token(index, piece) for index, piece in enumerate(shown)]
    assert end.finish_reason == "unknown"


def test_the_settings_can_say_that_a_text_is_repeated_or_not() -> None:
    said = pieces("a", "ab", "abc")

    assert text(decode(WRITER, said, ModelOverride(cumulative=False))[0]) == "aababc"
    assert decode(WRITER, said, ModelOverride(cumulative=True))[0] == [Token(0, "a"), Token(1, "b"), Token(2, "c")]


def test_characters_cut_between_messages_come_whole() -> None:
    events, _ = decode(WRITER, pieces(*[bytes([byte]) for byte in "naïve 日本 🙂".encode()]))

    assert [event.text for event in events if isinstance(event, Token)] == list("naïve 日本 🙂")


def _model(*, optional: bool = True, **inputs: tuple[str, tuple[int, ...]]) -> ModelSchema:
    specs = {name: TensorSpec(name, datatype, dims, optional) for name, (datatype, dims) in inputs.items()}
    prompt = {"prompt": TensorSpec("prompt", "BYTES", (1,))}
    outputs = {"text": TensorSpec("text", "BYTES", (1,))}
    return ModelSchema("m", prompt | specs, outputs, backend="python", decoupled=True)


@pytest.mark.spec("ORCH-3076-008")
def test_the_settings_name_an_input_for_token_ids() -> None:
    model = _model(ids=("INT32", (-1,)), tokens=("INT64", (1, -1)))
    override = ModelOverride(inputs={"prompt_token_ids": "ids"})
    from_settings = choose_dialect(model, override).capabilities(model)

    assert Capability.PROMPT_TOKEN_IDS in from_settings
    assert Capability.PROMPT_TOKEN_IDS not in choose_dialect(model).capabilities(model)
    assert "prompt" not in sent(encode(model, override, prompt="a"))["prompt"]
    with pytest.raises(InvalidRequest, match="'prompt'"):  # which this model insists on
        encode(model, override, prompt=None, prompt_token_ids=[5, 6])
    optional = replace(model, inputs={name: replace(spec, optional=True) for name, spec in model.inputs.items()})
    assert sent(encode(optional, override, prompt=None, prompt_token_ids=[5, 6])) == {"ids": [5, 6]}
    with pytest.raises(Unsupported, match="`prompt_token_ids`"):
        encode(optional, prompt=None, prompt_token_ids=[5, 6])
