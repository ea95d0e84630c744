"""Tasks to and from the vLLM backend."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest

from adapter_api import (
    Alternative,
    Capability,
    End,
    EngineFailed,
    InvalidRequest,
    Metrics,
    ProtocolViolation,
    Token,
    TokenEvent,
    Unsupported,
    Usage,
)
from tests.triton_adapter.dialects.models import decode, encode, reply, sampling, schema, sent, tensor, text
from triton_adapter.dialects import choose_dialect
from triton_adapter.schema import RawTensor
from triton_adapter.settings import ModelOverride

VLLM, OLD = schema("vllm"), schema("vllm_24_10")


def test_the_prompt_streams_and_asks_for_everything_that_is_declared() -> None:
    encoded = encode(VLLM)

    assert sent(encoded) == {
        "sampling_parameters": "{}",
        "text_input": "Hello",
        "stream": True,
        "return_finish_reason": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }
    assert {each.name: each.shape for each in encoded.inputs}["text_input"] == (1,)
    assert encoded.streaming
    assert set(encoded.outputs) == {"text_output", "finish_reason", "num_input_tokens", "num_output_tokens"}


def test_a_backend_from_before_24_12_gets_nothing_that_it_does_not_declare() -> None:
    encoded = encode(OLD, max_tokens=4)

    assert set(sent(encoded)) == {"text_input", "stream", "sampling_parameters"}
    assert encoded.outputs == ("text_output",)


def test_a_single_answer_leaves_the_prompt_out() -> None:
    encoded = encode(schema("vllm", decoupled=False))

    assert sent(encoded)["exclude_input_in_output"] is True
    assert "stream" not in sent(encoded)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5},
        {"max_tokens": 5, "min_tokens": 2},
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"top_k": 40},
        {"seed": 2**63 - 1},
        {"stop": ["\n", "END"]},
        {"presence_penalty": -1.5},
        {"frequency_penalty": 0.25},
        {"repetition_penalty": 1.1},
        {"logprobs": 3},
    ],
    ids=lambda fields: next(reversed(fields)),
)
def test_a_sampling_field_goes_under_its_own_name(fields: dict[str, Any]) -> None:
    assert sampling(encode(VLLM, **fields)) == fields


def test_top_k_zero_becomes_the_all_of_every_version() -> None:
    assert sampling(encode(VLLM, top_k=0)) == {"top_k": -1}


def test_fields_that_are_not_given_are_not_sent() -> None:
    # The input itself goes: without it the backend takes request parameters, of which Triton's HTTP makes some itself.
    assert sent(encode(VLLM))["sampling_parameters"] == "{}"


@pytest.mark.parametrize(
    "wanted, constraint",
    [
        ({"type": "json"}, {"json_object": True}),
        ({"type": "json_schema", "json_schema": {"type": "object"}}, {"json": {"type": "object"}}),
        ({"type": "regex", "regex": r"\d+"}, {"regex": r"\d+"}),
        ({"type": "grammar", "grammar": "root ::= [0-9]+"}, {"grammar": "root ::= [0-9]+"}),
    ],
    ids=lambda case: case.get("type", ""),
)
def test_a_constraint_goes_as_a_json_text_inside_the_json(wanted: dict[str, Any], constraint: dict[str, Any]) -> None:
    assert json.loads(sampling(encode(VLLM, response_format=wanted))["structured_outputs"]) == constraint


def test_a_constraint_goes_under_the_name_that_the_settings_give_it() -> None:
    override = ModelOverride(inputs={"response_format": "guided_decoding"})

    assert "guided_decoding" in sampling(encode(VLLM, override, response_format={"type": "json"}))


def test_a_lora_and_other_parameters_of_vllm_pass_through() -> None:
    given = {"triton.lora_name": "poet", "triton.ignore_eos": True, "triton.min_p": 0.1, "other.thing": 1}

    assert sampling(encode(VLLM, parameters=given)) == {"lora_name": "poet", "ignore_eos": True, "min_p": 0.1}


def test_parameters_that_are_lists_or_objects_come_as_json() -> None:
    given = {"triton.stop_token_ids": "[1, 2]", "triton.extra_args": '{"pace": 0}'}

    assert sampling(encode(VLLM, parameters=given)) == {"stop_token_ids": [1, 2], "extra_args": {"pace": 0}}


def test_a_parameter_that_is_no_json_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'triton\.extra_args' must be a JSON text"):
        encode(VLLM, parameters={"triton.extra_args": "{"})


def test_a_logit_bias_is_refused_by_name_with_what_to_use_instead() -> None:
    with pytest.raises(Unsupported, match=r"'triton\.logit_bias' cannot reach vLLM.*'triton\.allowed_token_ids'"):
        encode(VLLM, parameters={"triton.logit_bias": '{"5": 1}'})


@pytest.mark.parametrize(
    "server, key",
    [
        ("2.53.0", None),  # 24.12
        ("2.54.0", "guided_decoding"),  # 25.01
        ("2.62.0", "guided_decoding"),  # 25.10
        ("2.63.0", "structured_outputs"),  # 25.11
        ("2.65.0", "structured_outputs"),
        ("", "guided_decoding"),  # its inputs are of a release from 25.01 to 25.10
        ("2.51.0", "guided_decoding"),
    ],
)
def test_a_constraint_goes_under_the_name_of_the_backends_release(server: str, key: str | None) -> None:
    inputs = {name: spec for name, spec in VLLM.inputs.items() if name != "embedding_request"}
    model = replace(VLLM, inputs=inputs, server_version=server)
    has = Capability.RESPONSE_FORMAT in choose_dialect(model).dialect.capabilities(model)

    assert has is (key is not None)
    if key is not None:
        assert key in sampling(encode(model, response_format={"type": "json"}))
        return
    with pytest.raises(
        Unsupported, match=r"`response_format`.* from 25\.01 on.*`models\.llama\.inputs\.response_format`"
    ):
        encode(model, response_format={"type": "json"})
    told = ModelOverride(inputs={"response_format": "guided_decoding"})
    assert "guided_decoding" in sampling(encode(model, told, response_format={"type": "json"}))


def test_a_backend_that_declares_what_came_with_25_11_is_of_that_release_whatever_the_server_is() -> None:
    model = replace(VLLM, server_version="2.51.0")

    assert "structured_outputs" in sampling(encode(model, response_format={"type": "json"}))


def test_an_image_input_that_every_model_declares_promises_nothing() -> None:
    dialect = choose_dialect(VLLM).dialect

    assert Capability.IMAGES not in dialect.capabilities(VLLM)
    assert dialect.uncertain(VLLM) == {Capability.IMAGES}
    assert dialect.uncertain(OLD) == frozenset()


def test_half_a_character_in_a_parameter_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="half a character"):
        encode(VLLM, parameters={"triton.lora_name": "\ud83d"})


def test_images_go_as_base64_one_element_each() -> None:
    parts = [{"type": "image", "data": b"one"}, {"type": "text", "text": "What?"}, {"type": "image", "data": b"two"}]

    encoded = encode(VLLM, messages=[{"role": "user", "content": parts}])

    assert sent(encoded)["image"] == ["b25l", "dHdv"]
    assert {each.name: each.shape for each in encoded.inputs}["image"] == (2,)


@pytest.mark.spec("ORCH-3070-012")
def test_an_image_by_url_is_refused_for_the_backend_fetches_nothing() -> None:
    parts = [{"type": "image", "url": "https://images.example/cat.png"}, {"type": "text", "text": "What?"}]

    with pytest.raises(Unsupported, match=r"takes images by value, and fetches nothing .* give the image itself"):
        encode(VLLM, messages=[{"role": "user", "content": parts}])


@pytest.mark.parametrize(
    "fields, what",
    [
        ({"logprobs": 1}, "`logprobs`"),
        ({"response_format": {"type": "json"}}, "`response_format`"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "data": b"x"}]}]}, "images"),
        ({"tools": [{"name": "f"}]}, "`tools`"),
    ],
)
def test_what_an_old_backend_has_no_place_for_is_refused_by_name(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(Unsupported, match=rf"model 'llama' has no place for {what}; its inputs are exclude_input"):
        encode(OLD, **fields)


@pytest.mark.parametrize(
    "parameter, message",
    [
        ("n", "must be 1"),
        ("max_tokens", "is a field of the task; set `max_tokens` there"),
        ("stream", "is set by the adapter itself"),
        ("sampling_parameters", "is set by the adapter itself"),
        ("priority", "is reserved by the server; set the task's `priority`"),
        ("timeout", "set the task's `timeout_s`"),
        ("sequence_id", "use `infer`"),
        ("triton_enable_empty_final_response", "is reserved by the server"),
        ("headers", "is reserved by the server"),
        ("binary_data_output", "is reserved by the server"),
    ],
)
def test_parameters_that_would_break_the_request_are_refused(parameter: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"'triton\.{parameter}' {message}|'triton\.{parameter}'.*{message}"):
        encode(VLLM, parameters={f"triton.{parameter}": 2})


# -- answers


def chunk(piece: str, reason: str = "None", tokens: int = 1) -> Any:
    return reply(
        text_output=piece,
        finish_reason=reason,
        num_input_tokens=tensor(3, "UINT32", ()),
        num_output_tokens=tensor(tokens, "UINT32"),
    )


def test_deltas_become_tokens_and_the_engine_says_why_it_stopped_and_how_many_there_were() -> None:
    events, end = decode(VLLM, [chunk("Hel"), chunk("lo", tokens=2), chunk("", "length")])

    assert events == [Token(0, "Hel"), Token(1, "lo")]
    assert end == End(finish_reason="length", usage=Usage(tokens_in=3, tokens_out=4))


@pytest.mark.parametrize(
    "said, reason",
    [
        ("stop", "stop"),
        ("length", "length"),
        ("FinishReason.STOP", "stop"),
        ("tool_calls", "tool_calls"),
        ("None", "unknown"),
        ("", "unknown"),
        ("repetition", "unknown"),
        ("eos", "stop"),
        ("max_tokens", "length"),
    ],
)
def test_only_known_reasons_are_claimed(said: str, reason: str) -> None:
    assert decode(VLLM, [chunk("x", said)])[1].finish_reason == reason


@pytest.mark.parametrize("said", ["error", "abort", "timeout", "FinishReason.CANCELLED", "a word of tomorrow"])
def test_a_text_that_ends_with_any_other_word_is_a_failure_that_may_pass(said: str) -> None:
    with pytest.raises(EngineFailed, match=f"the engine ended the text with '{said.rpartition('.')[2].lower()}'") as e:
        decode(VLLM, [chunk("x", said)])

    assert e.value.retryable


@pytest.mark.parametrize("count", [float("nan"), float("inf"), -1.0, 0.5])
@pytest.mark.parametrize("output", ["num_input_tokens", "num_output_tokens"])
def test_a_count_that_is_none_is_the_engines_fault(output: str, count: float) -> None:
    said: dict[str, Any] = {
        "text_output": "x",
        "finish_reason": "stop",
        output: RawTensor("FP32", (1,), struct.pack("<f", count)),
    }

    with pytest.raises(ProtocolViolation, match="where it counts something"):
        decode(VLLM, [reply(**said)])


def test_a_count_that_is_cut_off_or_of_no_number_is_the_engines_fault() -> None:
    for broken in (RawTensor("UINT64", (1,), b"\x01\x02\x03"), RawTensor("BYTES", (1,), b"\x01\x00\x00\x007")):
        with pytest.raises(ProtocolViolation):
            decode(VLLM, [reply(text_output="x", num_output_tokens=broken)])


def test_the_message_that_only_carries_the_final_flag_changes_nothing() -> None:
    _, end = decode(VLLM, [chunk("x", "stop"), reply(final=True)])

    assert end.finish_reason == "stop"
    assert end.usage.tokens_out == 1


def test_a_stop_string_that_a_look_alike_leaves_in_the_text_is_cut() -> None:
    events, end = decode(VLLM, [chunk("one E"), chunk("ND two")], stop=["END"])

    assert text(events) == "one "
    assert end.finish_reason == "stop"


@pytest.mark.parametrize("fields", [{"parameters": {"triton.include_stop_str_in_output": True}}, {"min_tokens": 2}])
def test_a_stop_string_stays_where_the_task_wants_it_or_more_text_first(fields: dict[str, Any]) -> None:
    events, end = decode(VLLM, [chunk("one END", "stop")], stop=["END"], **fields)

    assert text(events) == "one END"
    assert end.finish_reason == "stop"


def test_an_old_backend_ends_with_unknown_and_no_counts() -> None:
    events, end = decode(OLD, [reply(text_output="Hi")], max_tokens=1)

    assert text(events) == "Hi"
    assert end == End(finish_reason="unknown", usage=Usage())


def test_each_token_has_the_logprob_of_the_one_that_was_chosen() -> None:
    steps = [{"42": {"logprob": -0.5, "rank": 2, "decoded_token": "Hi"}, "7": {"logprob": -0.1, "rank": 1}}]

    events, _ = decode(VLLM, [reply(text_output="Hi", logprobs=json.dumps(steps))], logprobs=0)

    assert events == [Token(0, "Hi", token_id=42, logprob=-0.5)]


@pytest.mark.parametrize("wanted, told", [(1, ["Ho"]), (2, ["Ho", "Hi"]), (3, ["Ho", "Hi", "He"])])
def test_as_many_alternatives_are_told_as_were_asked_for_likeliest_first(wanted: int, told: list[str]) -> None:
    likely = {"7": ("Ho", -0.1), "42": ("Hi", -2.5), "9": ("He", -3.0)}
    step = {key: {"logprob": logprob, "decoded_token": text} for key, (text, logprob) in likely.items()}
    chosen_first = {"42": step["42"]} | step

    events, _ = decode(VLLM, [reply(text_output="Hi", logprobs=json.dumps([chosen_first]))], logprobs=wanted)

    assert isinstance(events[0], Token)
    assert events[0].logprob == -2.5
    assert [alternative.text for alternative in events[0].alternatives] == told
    assert events[0].alternatives[0] == Alternative("Ho", -0.1, 7)


def test_what_is_impossible_is_no_alternative() -> None:
    said = '[{"1": {"logprob": -0.5, "decoded_token": "a"}, "2": {"logprob": -Infinity, "decoded_token": "b"}}]'

    events, _ = decode(VLLM, [reply(text_output="a", logprobs=said)], logprobs=2)

    assert events == [Token(0, "a", token_id=1, logprob=-0.5, alternatives=(Alternative("a", -0.5, 1),))]


def said(piece: str, *tokens: str | None, first: int = 1) -> Any:
    """Return a message with a step per token: its likeliest, and one that it could have been."""
    steps = [
        {
            str(at): {"logprob": -at / 8, "rank": 1, **({} if token is None else {"decoded_token": token})},
            "99": {"logprob": -9.0, "rank": 2, "decoded_token": "?"},
        }
        for at, token in enumerate(tokens, first)
    ]
    return reply(text_output=piece, logprobs=json.dumps(steps))


def scored(events: list[TokenEvent]) -> list[tuple[str, int | None, float | None]]:
    assert all(isinstance(event, Token) for event in events)
    assert [event.index for event in events if isinstance(event, Token)] == list(range(len(events)))
    return [(event.text, event.token_id, event.logprob) for event in events if isinstance(event, Token)]


@pytest.mark.spec("ORCH-3055-048")
def test_steps_joined_into_one_message_are_an_event_each_with_id_and_alternatives() -> None:
    events, _ = decode(VLLM, [said("Hi there!", "Hi", " there", "!")], logprobs=2)

    assert scored(events) == [("Hi", 1, -0.125), (" there", 2, -0.25), ("!", 3, -0.375)]
    for event in events:
        assert isinstance(event, Token)
        assert event.alternatives == (
            Alternative(event.text, event.logprob or 0.0, event.token_id),
            Alternative("?", -9.0, 99),
        )


@pytest.mark.spec("ORCH-3055-048")
def test_joined_steps_keep_characters_whole_and_special_tokens_silent() -> None:
    replies = [said("A 日", "<s>", "A", " ", "\ufffd", "\ufffd", "\ufffd"), said("!", "!", "</s>", first=7)]

    events, _ = decode(VLLM, replies, logprobs=0)

    texts = ["", "A", " ", "", "", "日", "!", ""]
    assert scored(events) == [(piece, at, -at / 8) for at, piece in enumerate(texts, 1)]


@pytest.mark.spec("ORCH-3055-048")
def test_joined_steps_that_do_not_make_up_the_text_have_one_event_with_their_joint_logprob() -> None:
    replies = [said("Hi.", "Hi", " ."), said(" So it", " So", " it", first=3)]

    events, _ = decode(VLLM, replies, logprobs=1)

    assert scored(events) == [("Hi.", None, -0.375), (" So", 3, -0.375), (" it", 4, -0.5)]
    assert isinstance(events[0], Token)
    assert not events[0].alternatives


@pytest.mark.spec("ORCH-3055-048")
def test_text_that_waits_for_a_stop_string_goes_with_the_steps_that_made_it() -> None:
    # vLLM holds back as many characters as a stop string has but one, and joins steps too.
    replies = [
        said("", "one"),
        said("one", " two", first=2),
        said(" two thr", " three", " EN", "!", first=3),
        said("ee EN!", first=6),
    ]

    events, end = decode(VLLM, replies, logprobs=0, stop=["END!"])

    texts = ["one", " two", " three", " EN", "!"]
    assert scored(events) == [(piece, at, -at / 8) for at, piece in enumerate(texts, 1)]
    assert end.finish_reason == "unknown"


@pytest.mark.spec("ORCH-3055-048")
@pytest.mark.parametrize("engine_cuts", [True, False])
def test_a_stop_string_cuts_the_token_that_it_begins_in(engine_cuts: bool) -> None:
    last = said("o " if engine_cuts else "o END", " EN", "D", first=3)

    events, _ = decode(VLLM, [said("one", "one", " two"), said(" tw"), last], logprobs=0, stop=["END"])

    assert text(events) == "one two "
    assert scored(events) == [("one", 1, -0.125), (" two", 2, -0.25), (" ", 3, -0.375), ("", 4, -0.5)]


@pytest.mark.spec("ORCH-3055-048")
def test_text_and_steps_that_do_not_fit_beside_a_stop_string_are_told_as_they_come() -> None:
    replies = [
        said("", "Hi"),
        said("Hi.", " .", first=2),
        said(" So", " So", first=3),
        said(" be it", " be", " it", first=4),
    ]

    events, _ = decode(VLLM, replies, logprobs=0, stop=["END"])

    assert text(events) == "Hi. So be it"
    assert sum(event.logprob or 0.0 for event in events if isinstance(event, Token)) == -15 / 8


def test_tokens_that_the_engine_does_not_name_have_their_joint_logprob() -> None:
    events, _ = decode(VLLM, [said("Hi!", None, "!")], logprobs=0)

    assert events == [Token(0, "Hi!", logprob=-0.375)]


@pytest.mark.spec("ORCH-3055-048")
def test_a_single_answer_is_an_event_per_token_too() -> None:
    events, _ = decode(schema("vllm", decoupled=False), [said("Hi there", "Hi", " there")], logprobs=0)

    assert scored(events) == [("Hi", 1, -0.125), (" there", 2, -0.25)]


@pytest.mark.parametrize("said", ["null", "[]"])
def test_a_message_without_logprobs_is_a_plain_token(said: str) -> None:
    assert decode(VLLM, [reply(text_output="Hi", logprobs=said)], logprobs=0)[0] == [Token(0, "Hi")]


def test_a_token_without_logprobs_among_others_is_passed_over() -> None:
    events, _ = decode(VLLM, [reply(text_output="Hi", logprobs='[null, {}, {"42": {"logprob": -0.5}}]')], logprobs=0)

    assert events == [Token(0, "Hi", token_id=42, logprob=-0.5)]


@pytest.mark.parametrize(
    "said",
    [
        "{nope",
        "3",
        '"x"',
        "[3]",
        '[{"42": -0.5}]',
        '[{"42": {}}]',
        '[{"42": {"rank": 1}}]',
        '[{"a": {"logprob": -1}}]',
        '[{"1": {"logprob": "a"}}]',
    ],
)
def test_logprobs_that_are_none_are_the_engines_fault_and_said_so(said: str) -> None:
    with pytest.raises(ProtocolViolation, match="output 'logprobs' is not what vLLM's backend sends"):
        decode(VLLM, [reply(text_output="Hi", logprobs=said)], logprobs=0)


def test_the_reason_and_the_counts_may_come_in_messages_of_their_own() -> None:
    said = [
        reply(text_output="Hi"),
        reply(num_output_tokens=tensor(2, "UINT32")),
        reply(finish_reason="length"),
        reply(num_input_tokens=tensor(3, "UINT32")),
    ]

    events, end = decode(VLLM, said)

    assert text(events) == "Hi"
    assert end == End(finish_reason="length", usage=Usage(tokens_in=3, tokens_out=2))


def test_outputs_that_the_task_asks_for_itself_come_as_metrics() -> None:
    parameters = {"triton.return_cumulative_logprob": True}

    assert encode(VLLM, parameters=parameters).outputs == ()
    events, _ = decode(
        VLLM,
        [reply(text_output="a", cumulative_logprob=tensor(-0.5, "FP32")), reply(text_output="b")],
        parameters=parameters,
    )

    assert events[-1] == Metrics(engine={"cumulative_logprob": -0.5})
