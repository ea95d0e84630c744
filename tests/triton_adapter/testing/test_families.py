"""The signatures a fake model can have: what they declare, and how they word an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor

from adapter_api import ConfigurationError
from tests.triton_adapter.testing.v2client import (
    EMPTY_FINAL,
    Status,
    bytes_of,
    connect,
    infer_request,
    is_final,
    text_request,
    texts_of,
)
from triton_adapter.testing import FakeTriton

TRUE = b"\x01"
TOKENS = ["Hello", " there", "!"]


def bool_input(name: str, shape: list[int]) -> tuple[str, str, list[int], bytes]:
    return (name, "BOOL", shape, TRUE)


def stream(fake: FakeTriton, request: Any) -> list[Any]:
    with connect(fake.grpc_url) as client:
        messages, status = client.stream(request)
    assert status is None
    return messages


def column(messages: list[Any], name: str) -> list[bytes]:
    found = []
    for message in messages:
        response = message.infer_response
        found += [
            raw
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
            if output.name == name
        ]
    return found


def strings(raw: bytes) -> list[bytes]:
    return list(deserialize_bytes_tensor(raw))


def vllm_request(*flags: str, sampling: dict[str, Any] | None = None) -> Any:
    inputs = [("text_input", "BYTES", [1], bytes_of("Hi you")), *(bool_input(flag, [1]) for flag in flags)]
    if sampling is not None:
        inputs.append(("sampling_parameters", "BYTES", [1], bytes_of(json.dumps(sampling))))
    return infer_request("llama", inputs, parameters=EMPTY_FINAL)


def trtllm_request(*flags: str) -> Any:
    inputs = [
        ("text_input", "BYTES", [1, 1], bytes_of("Hi you")),
        ("max_tokens", "INT32", [1, 1], b"\x05\0\0\0"),
        *(bool_input(flag, [1, 1]) for flag in flags),
    ]
    return infer_request("llama", inputs, parameters=EMPTY_FINAL)


def test_a_model_nobody_told_anything_says_hello(fake: FakeTriton) -> None:
    fake.model("llama")

    messages = stream(fake, vllm_request("stream"))

    assert b"".join(texts_of(messages)) == b"Hello there!"


def test_vllm_streams_deltas_with_the_flag_on_the_last(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_tokens(TOKENS)

    messages = stream(fake, vllm_request("stream"))

    assert texts_of(messages) == [b"Hello", b" there", b"!"]
    assert [is_final(message) for message in messages] == [False, False, True]
    assert {output.name for output in messages[0].infer_response.outputs} == {"text_output"}


def test_vllm_answers_once_with_the_prompt_in_front_when_it_does_not_stream(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_tokens(TOKENS)

    (message,) = stream(fake, vllm_request())
    (without,) = stream(fake, vllm_request("exclude_input_in_output"))

    assert texts_of([message]) == [b"Hi youHello there!"]
    assert texts_of([without]) == [b"Hello there!"]


def test_vllm_tells_the_extras_that_are_asked_for(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_tokens(TOKENS, finish_reason="length")
    asked = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens", "return_logprobs")

    messages = stream(fake, vllm_request("stream", *asked, sampling={"logprobs": 2}))

    assert [strings(raw) for raw in column(messages, "finish_reason")] == [[b"None"], [b"None"], [b"length"]]
    assert column(messages, "num_input_tokens") == [b"\x02\0\0\0"] * 3
    assert column(messages, "num_output_tokens") == [b"\x01\0\0\0"] * 3
    entries = [json.loads(strings(raw)[0])[0] for raw in column(messages, "logprobs")]
    assert [next(iter(entry.values()))["decoded_token"] for entry in entries] == TOKENS
    assert [len(entry) for entry in entries] == [2, 2, 2]


def test_vllm_before_24_12_refuses_what_it_does_not_know(fake: FakeTriton) -> None:
    fake.model("llama").signature("vllm_before_24_12")

    (message,) = stream(fake, vllm_request("stream", "return_finish_reason"))

    assert message.error_message == "unexpected inference input 'return_finish_reason' for model 'llama'"


def test_trtllm_streams_deltas_and_needs_max_tokens(fake: FakeTriton) -> None:
    fake.model("llama").signature("trtllm").respond_with_tokens(TOKENS)

    messages = stream(fake, trtllm_request("stream"))
    (refused,) = stream(fake, infer_request("llama", [("text_input", "BYTES", [1, 1], bytes_of("Hi"))]))

    assert texts_of(messages) == [b"Hello", b" there", b"!"]
    assert [is_final(message) for message in messages] == [False, False, True]
    assert "missing required input(s) ['max_tokens']" in refused.error_message


def test_trtllm_bls_ends_with_the_flag_alone(fake: FakeTriton) -> None:
    fake.model("llama").signature("trtllm_bls").respond_with_tokens(TOKENS)

    messages = stream(fake, trtllm_request("stream"))

    assert [is_final(message) for message in messages] == [False, False, False, True]


def test_trtllm_bls_can_accumulate(fake: FakeTriton) -> None:
    model = fake.model("llama").signature("trtllm_bls").respond_with_tokens(TOKENS)
    with connect(fake.grpc_url) as client:
        config = client.call("ModelConfig", pb.ModelConfigRequest(name="llama")).config
    config.parameters["accumulate_tokens"].string_value = "true"
    model.config(str(config))

    messages = stream(fake, trtllm_request("stream"))

    assert texts_of(messages) == [b"Hello", b"Hello there", b"Hello there!"]


def test_an_older_trtllm_calls_the_seed_otherwise(fake: FakeTriton) -> None:
    fake.model("llama").signature("trtllm", seed_input="random_seed")

    with connect(fake.grpc_url) as client:
        config = client.call("ModelConfig", pb.ModelConfigRequest(name="llama")).config

    names = {tensor.name for tensor in config.input}
    assert "random_seed" in names
    assert "seed" not in names
    assert config.platform == "ensemble"


def llmapi_request(*flags: str, request_id: str = "r1") -> Any:
    inputs = [("text_input", "BYTES", [1], bytes_of("Hi")), *(bool_input(flag, [1]) for flag in flags)]
    return infer_request("llama", inputs, parameters=EMPTY_FINAL, request_id=request_id)


def test_llmapi_streams_the_whole_text_so_far(fake: FakeTriton) -> None:
    fake.model("llama").signature("trtllm_llmapi").respond_with_tokens(TOKENS)

    messages = stream(fake, llmapi_request("streaming", "return_finish_reason"))

    assert texts_of(messages) == [b"Hello", b"Hello there", b"Hello there!"]
    assert [strings(raw)[0] for raw in column(messages, "finish_reason")] == [b"None", b"None", b"stop"]


def test_llmapi_that_is_not_decoupled_refuses_to_stream(fake: FakeTriton) -> None:
    fake.model("llama").signature("trtllm_llmapi", decoupled=False)

    with connect(fake.grpc_url) as client:
        refused = client.infer(llmapi_request("streaming"))

    assert refused == Status("INTERNAL", "Streaming is only supported in decoupled mode.")


def test_llmapi_stops_the_request_of_the_same_id(fake: FakeTriton) -> None:
    model = fake.model("llama").signature("trtllm_llmapi").respond_with_tokens(TOKENS).hold(after=1)

    with connect(fake.grpc_url) as client:
        victim = client.open_stream(llmapi_request("streaming", request_id="victim"))
        next(victim)
        (answer,), _ = client.stream(llmapi_request("stop", request_id="victim"))
        rest = list(victim)

    assert answer.error_message == "Request cancelled by client"
    assert [is_final(message) for message in rest] == [True]
    fake.wait_until(lambda: model.cancelled_seen == 1)


def test_a_stop_without_an_id_is_refused(fake: FakeTriton) -> None:
    fake.model("llama").signature("trtllm_llmapi")

    (answer,) = stream(fake, llmapi_request("stop", request_id=""))

    assert answer.error_message == "A request id must be provided for request cancellation"


def test_the_raw_engine_speaks_token_ids(fake: FakeTriton) -> None:
    fake.model("llama").signature("tensorrt_llm").respond_with_tokens([5, 6, 7])
    inputs = [
        ("input_ids", "INT32", [1, 2], b"\x01\0\0\0\x02\0\0\0"),
        ("input_lengths", "INT32", [1, 1], b"\x02\0\0\0"),
        ("request_output_len", "INT32", [1, 1], b"\x05\0\0\0"),
    ]

    streamed = stream(fake, infer_request("llama", [*inputs, bool_input("streaming", [1, 1])]))
    (whole,) = stream(fake, infer_request("llama", inputs))

    assert column(streamed, "output_ids") == [bytes([token, 0, 0, 0]) for token in (5, 6, 7)]
    assert column([whole], "output_ids") == [b"".join(bytes([token, 0, 0, 0]) for token in (1, 2, 5, 6, 7))]


def test_a_text_model_may_have_tensors_of_other_names(fake: FakeTriton) -> None:
    fake.model("seed").config(
        {
            "input": [{"name": "prompt", "data_type": "TYPE_STRING", "dims": [1]}],
            "output": [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}],
            "model_transaction_policy": {"decoupled": True},
        }
    ).respond_with_tokens(["a", "b"])

    messages = stream(fake, infer_request("seed", [("prompt", "BYTES", [1], bytes_of("Hi"))]))

    assert [strings(raw) for raw in column(messages, "text")] == [[b"a"], [b"b"]]


def test_tokens_may_be_bytes_that_cut_a_character(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_tokens([b"\xc3", b"\xa9"])

    assert texts_of(stream(fake, vllm_request("stream"))) == [b"\xc3", b"\xa9"]


def test_answers_with_a_count_come_first_and_in_order(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_text("always")
    fake.model("llama").respond_with_text("first", times=1).respond_with_text("second", times=1)

    found = [b"".join(texts_of(stream(fake, vllm_request("stream")))) for _ in range(4)]

    assert found == [b"first", b"second", b"always", b"always"]


def test_a_function_sees_the_request_and_makes_the_answer(fake: FakeTriton) -> None:
    fake.model("llama").respond_with(lambda request: f"you said {request.text()}")

    messages = stream(fake, vllm_request("stream"))

    assert b"".join(texts_of(messages)) == b"you said Hi you"


def test_tensors_get_the_declared_datatype(fake: FakeTriton) -> None:
    fake.model("sum").config(
        'input [{name: "X", data_type: TYPE_FP32, dims: [2]}]'
        'output [{name: "Y", data_type: TYPE_FP16, dims: [2]}, {name: "N", data_type: TYPE_STRING, dims: [1]}]'
    ).respond_with_tensors({"Y": [1, 2], "N": "name"})

    with connect(fake.grpc_url) as client:
        response = client.infer(infer_request("sum", [("X", "FP32", [2], b"\0" * 8)]))

    assert [(output.name, output.datatype, list(output.shape)) for output in response.outputs] == [
        ("Y", "FP16", [2]),
        ("N", "BYTES", [1]),
    ]
    assert list(response.raw_output_contents) == [b"\x00\x3c\x00\x40", bytes_of("name")]


def test_an_output_the_model_does_not_declare_is_the_tests_own_mistake(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_tensors({"nope": 1})

    (message,) = stream(fake, vllm_request("stream"))

    assert "declares no output 'nope'" in message.error_message
    with pytest.raises(AssertionError, match="declares no output 'nope'"):
        fake.check()


@pytest.mark.parametrize("config", ["input {", {"input": 3}])
def test_a_configuration_that_cannot_be_read_is_refused(fake: FakeTriton, config: Any) -> None:
    with pytest.raises(ConfigurationError, match="configuration of model 'llama' cannot be read"):
        fake.model("llama").config(config)


def test_an_unknown_signature_is_refused_with_those_there_are(fake: FakeTriton) -> None:
    with pytest.raises(ConfigurationError, match=r"no signature 'nope'.*; there are text, vllm, "):
        fake.model("llama").signature("nope")  # type: ignore[arg-type]


def test_plain_text_request_reaches_a_vllm_model_too(fake: FakeTriton) -> None:
    fake.model("llama").respond_with_text("x", finish_reason="stop")

    (message,) = stream(fake, text_request("llama"))

    assert texts_of([message]) == [b"Hix"]


def test_a_model_without_a_text_output_that_nobody_scripted_says_how_to() -> None:
    adder = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
    with FakeTriton() as fake:
        fake.model("adder").config(adder)
        with connect(fake.grpc_url) as client:
            answer = client.infer(infer_request("adder", [("x", "FP32", [1], b"\0" * 4)]))

    assert isinstance(answer, Status)
    assert "script it, `respond_with_tensors`" in answer.text
