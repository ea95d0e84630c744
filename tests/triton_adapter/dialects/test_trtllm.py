"""Tasks to and from TensorRT-LLM's ensemble and BLS models."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import End, InvalidRequest, Metrics, ProtocolViolation, Token, Unsupported, Usage
from tests.triton_adapter.dialects.models import decode, encode, reply, schema, sent, tensor, text

ENSEMBLE, OLD, BLS = schema("trtllm_ensemble"), schema("trtllm_ensemble_v0_9"), schema("trtllm_bls")


def test_every_input_has_the_batch_dimension_in_front() -> None:
    encoded = encode(ENSEMBLE, max_tokens=8, stop=["a", "b"])

    assert {each.name: each.shape for each in encoded.inputs} == {
        "text_input": (1, 1),
        "max_tokens": (1, 1),
        "stop_words": (1, 2),
        "stream": (1, 1),
        "exclude_input_in_output": (1, 1),
        "return_num_input_tokens": (1, 1),
        "return_num_output_tokens": (1, 1),
    }


@pytest.mark.parametrize(
    "field, value, datatype",
    [
        ("max_tokens", 9, "INT32"),
        ("min_tokens", 2, "INT32"),
        ("temperature", 0.5, "FP32"),
        ("top_p", 0.75, "FP32"),
        ("top_k", 3, "INT32"),
        ("seed", 2**63 - 1, "UINT64"),
        ("presence_penalty", 1.5, "FP32"),
        ("frequency_penalty", -0.5, "FP32"),
        ("repetition_penalty", 1.25, "FP32"),
    ],
)
def test_a_sampling_field_goes_to_the_tensor_of_its_name(field: str, value: float, datatype: str) -> None:
    encoded = encode(ENSEMBLE, **({"max_tokens": 9} | {field: value}))

    assert sent(encoded)[field] == value
    assert next(each.datatype for each in encoded.inputs if each.name == field) == datatype


def test_releases_before_0_20_get_seed_and_minimum_under_the_names_they_have() -> None:
    values = sent(encode(OLD, max_tokens=9, seed=5, min_tokens=2))

    assert (values["random_seed"], values["min_length"]) == (5, 2)
    assert set(values) == {"text_input", "max_tokens", "random_seed", "min_length", "stream"}


def test_a_model_that_answers_once_is_told_not_to_stream() -> None:
    encoded = encode(schema("trtllm_ensemble", decoupled=False), max_tokens=9)

    assert sent(encoded)["stream"] is False
    assert sent(encoded)["exclude_input_in_output"] is True
    assert not encoded.streaming


def test_max_tokens_is_missed_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'ensemble' needs `max_tokens` and has no default of its own"):
        encode(ENSEMBLE)


@pytest.mark.parametrize(
    "wanted, kind, guide",
    [
        ({"type": "json"}, "json", None),
        ({"type": "json_schema", "json_schema": {"type": "object"}}, "json_schema", '{"type":"object"}'),
        ({"type": "regex", "regex": r"\d+"}, "regex", r"\d+"),
        ({"type": "grammar", "grammar": "root ::= [0-9]+"}, "ebnf_grammar", "root ::= [0-9]+"),
    ],
)
def test_a_constraint_goes_as_type_and_guide(wanted: dict[str, Any], kind: str, guide: str | None) -> None:
    values = sent(encode(ENSEMBLE, max_tokens=1, response_format=wanted))

    assert values["guided_decoding_guide_type"] == kind
    assert values.get("guided_decoding_guide") == guide


def test_parameters_go_to_the_inputs_of_their_names() -> None:
    parameters = {"triton.lora_task_id": 7, "triton.end_id": 2, "triton.bad_words": "ugly", "triton.length_penalty": 1}

    values = sent(encode(ENSEMBLE, max_tokens=1, parameters=parameters))

    assert (values["lora_task_id"], values["end_id"], values["bad_words"], values["length_penalty"]) == (
        7,
        2,
        "ugly",
        1,
    )


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"triton.lora_task": 7}, r"has no input for parameter 'triton\.lora_task'; its inputs are .*lora_task_id"),
        ({"triton.end_id": 2**31}, r"input 'end_id' does not fit its datatype INT32"),
        ({"triton.end_id": 1.5}, r"input 'end_id' does not fit its datatype INT32"),
        ({"triton.lora_task_id": -1}, r"input 'lora_task_id' does not fit its datatype UINT64"),
        ({"triton.return_perf_metrics": "maybe"}, r"input 'return_perf_metrics' does not fit its datatype BOOL"),
        ({"triton.beam_width": 4}, r"'triton\.beam_width' must be 1"),
        ({"triton.num_return_sequences": 2}, r"'triton\.num_return_sequences' must be 1"),
        ({"triton.text_input": "x"}, r"'triton\.text_input' is set by the adapter itself"),
        ({"triton.random_seed": 3}, r"'triton\.random_seed' is set by the adapter itself"),
        ({"triton.lora_config": 1}, r"input 'lora_config' of the model takes 3 element"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        encode(ENSEMBLE, max_tokens=1, parameters=parameters)


@pytest.mark.parametrize(
    "fields, what",
    [
        ({"response_format": {"type": "json"}}, "`response_format`"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "data": b"x"}]}]}, "images"),
        ({"tools": [{"name": "f"}]}, "`tools`"),
    ],
)
def test_what_the_model_has_no_place_for_is_refused_by_name(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(Unsupported, match=rf"model 'ensemble' has no place for {what}"):
        encode(OLD, max_tokens=1, **fields)


# -- answers


def chunk(piece: str, tokens: int = 1) -> Any:
    return reply(text_output=piece, num_input_tokens=tensor(3, None, (1, 1)), num_output_tokens=tensor(tokens))


def test_deltas_become_tokens_and_counts_are_summed() -> None:
    events, end = decode(ENSEMBLE, [chunk("Hel"), chunk("lo", 2), reply(final=True)], max_tokens=9)

    assert events == [Token(0, "Hel"), Token(1, "lo")]
    assert end == End(finish_reason="unknown", usage=Usage(tokens_in=3, tokens_out=3))


def test_length_is_claimed_when_all_the_tokens_asked_for_were_counted() -> None:
    assert decode(ENSEMBLE, [chunk("Hel"), chunk("lo", 2)], max_tokens=3)[1].finish_reason == "length"


def test_nothing_is_claimed_where_the_model_does_not_count() -> None:
    assert decode(OLD, [reply(text_output="Hello")], max_tokens=1)[1] == End(finish_reason="unknown", usage=Usage())


def test_a_stop_word_that_the_engine_leaves_in_the_text_is_cut_and_is_the_reason() -> None:
    events, end = decode(ENSEMBLE, [chunk("one tw"), chunk("o three"), chunk(" four")], max_tokens=9, stop=["two"])

    assert text(events) == "one "
    assert end.finish_reason == "stop"


def test_what_could_have_become_a_stop_word_is_shown_when_it_did_not() -> None:
    events, end = decode(ENSEMBLE, [chunk("one"), chunk(" tw")], max_tokens=9, stop=["two"])

    assert [event.text for event in events if isinstance(event, Token)] == ["one", " ", "tw"]
    assert end.finish_reason == "unknown"


def test_the_text_of_a_bls_model_that_accumulates_is_turned_into_deltas() -> None:
    events, _ = decode(BLS, [chunk("Hel"), chunk("Hello"), chunk("Hello \ufffd"), chunk("Hello 🙂")], max_tokens=9)

    assert [event.text for event in events if isinstance(event, Token)] == ["Hel", "lo", " ", "🙂"]


def test_the_text_of_a_bls_model_that_does_not_accumulate_is_taken_as_it_comes() -> None:
    model = schema("trtllm_bls", parameters={"accumulate_tokens": "false", "tensorrt_llm_model_name": "tensorrt_llm"})

    assert text(decode(model, [chunk("ha"), chunk("ha"), chunk("haha")], max_tokens=9)[0]) == "hahahaha"


def test_a_text_so_far_that_changes_what_was_shown_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="changed a part of it that was already shown"):
        decode(BLS, [chunk("Hello ."), chunk("Hello. It")], max_tokens=9)


def test_several_texts_for_one_prompt_are_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="2 texts for one prompt"):
        decode(ENSEMBLE, [reply(text_output=["a", "b"])], max_tokens=9)


def test_alternatives_are_refused_by_name_where_only_the_chosen_tokens_are_scored() -> None:
    with pytest.raises(
        Unsupported, match=r"'ensemble' tells the probability of the chosen token only: set `logprobs` to 0"
    ):
        encode(ENSEMBLE, max_tokens=1, logprobs=2)


@pytest.mark.parametrize("repeats", [False, True])
def test_logprobs_are_those_of_the_new_tokens_whether_or_not_the_engine_repeats_the_old(repeats: bool) -> None:
    values = [-0.5, -0.25, -0.125]
    arrays = [values[: i + 1] if repeats else [values[i]] for i in range(3)]
    replies = [
        reply(text_output=piece, output_log_probs=tensor(array, "FP32", (1, 1, len(array))))
        for piece, array in zip("abc", arrays, strict=True)
    ]

    events, _ = decode(ENSEMBLE, replies, max_tokens=9, logprobs=0)

    assert events == [Token(i, "abc"[i], logprob=values[i]) for i in range(3)]


def test_every_logprob_is_seen_even_while_its_text_is_held_back() -> None:
    replies = [reply(text_output=piece, output_log_probs=tensor([-0.5], "FP32", (1, 1, 1))) for piece in ("t", "x")]

    events, _ = decode(ENSEMBLE, replies, max_tokens=9, logprobs=0, stop=["two"])

    assert events == [Token(0, "", logprob=-0.5), Token(1, "tx", logprob=-0.5)]


def test_performance_figures_come_as_metrics_when_asked_for() -> None:
    parameters = {"triton.return_perf_metrics": True}

    assert sent(encode(ENSEMBLE, max_tokens=1, parameters=parameters))["return_perf_metrics"] is True
    events, _ = decode(
        ENSEMBLE, [reply(text_output="a", kv_cache_reused_blocks=tensor(4))], max_tokens=1, parameters=parameters
    )

    assert events[-1] == Metrics(engine={"kv_cache_reused_blocks": 4})
