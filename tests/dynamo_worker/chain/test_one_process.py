"""Unmodified clients → Dynamo's frontends → our worker, in one process: what is carried, row by row."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from dynamo_worker.faults import FAULTS
from tests.dynamo_worker.chain.asking_one import OneProcess, one_process
from tests.dynamo_worker.chain.scripted import DYING, FAILING, REPLY, STREAMING, UNARY
from tests.dynamo_worker.test_values import SAMPLES

X = ["x", "FP32", [2], struct.pack("<2f", 1, 2).hex()]
CHAT = {"model": STREAMING, "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": STREAMING, "prompt": "hi"}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def chain() -> Iterator[OneProcess]:
    with one_process() as made:
        yield made


# -- Tensors -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3071-004")
@pytest.mark.parametrize("datatype", SAMPLES)
def test_a_tensor_of_each_datatype_passes_as_raw_bytes(chain: OneProcess, datatype: str) -> None:
    sent = ["x", datatype, [2], SAMPLES[datatype][2].hex()]

    answer = chain.ask("infer", model=UNARY, tensors=[sent])

    assert chain.asked()["inputs"] == [sent]
    assert answer["outputs"] == [sent]


TYPED: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]), "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [1, 65535]), "UINT32": ("uint_contents", [1, 2**32 - 1]),
    "UINT64": ("uint64_contents", [1, 2**64 - 1]), "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-1, 2]), "INT32": ("int_contents", [-1, 2]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]), "FP32": ("fp32_contents", [0.5, -2.0]),
    "FP64": ("fp64_contents", [0.1, -2.0]), "BYTES": ("bytes_contents", ["ff00", ""]),
}  # fmt: skip


@pytest.mark.spec("ORCH-3071-004")
@pytest.mark.parametrize("datatype", TYPED)
def test_a_tensor_in_a_field_of_its_type_comes_back_in_one(chain: OneProcess, datatype: str) -> None:
    field, values = TYPED[datatype]

    answer = chain.ask("typed", model=UNARY, contents=[field, values], kind=datatype, shape=[2])

    assert answer["outputs"] == [["x", datatype, [2], [field, values]]]


@pytest.mark.spec("ORCH-3071-004")
@pytest.mark.parametrize("shape", [[0], [0, 4]])
@pytest.mark.parametrize("datatype", SAMPLES)
def test_a_tensor_without_elements_passes(chain: OneProcess, datatype: str, shape: list[int]) -> None:
    sent = ["x", datatype, shape, ""]

    assert chain.ask("infer", model=UNARY, tensors=[sent])["outputs"] == [sent]
    assert chain.asked()["inputs"] == [sent]


@pytest.mark.spec("ORCH-3071-005")
@pytest.mark.parametrize("model", [STREAMING, UNARY])
def test_the_outputs_that_were_asked_for_come_in_that_order(chain: OneProcess, model: str) -> None:
    tensors = [[name, *X[1:]] for name in ("a", "b", "c")]

    answer = chain.ask("infer", model=model, tensors=tensors, outputs=[["c", 0], ["a", 3]])

    assert [output[0] for output in answer["outputs"]] == ["c", "a"]
    assert chain.asked()["outputs"] == [["c", 0], ["a", 3]]


CARRIED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"request_id": "r7"}, {"id": "r7"}),
    ({"priority": 3}, {"priority": 3}),
    ({"timeout": 1_500_000}, {"timeout_s": 1.5}),
    ({"sequence_id": 7, "sequence_start": True}, {"sequence": [7, True, False]}),
    ({"sequence_id": "s", "sequence_end": True}, {"sequence": ["s", False, True]}),
    (
        {"parameters": {"b": True, "i": -3, "d": 0.1, "s": "é"}},
        {"parameters": {"b": True, "i": -3, "d": 0.1, "s": "é"}},
    ),
]


@pytest.mark.spec("ORCH-3071-006")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sent, reached", CARRIED)
def test_what_a_request_says_of_itself_reaches_the_engine(
    chain: OneProcess, sent: dict[str, Any], reached: dict[str, Any], stream: bool
) -> None:
    chain.ask("infer", model=STREAMING, tensors=[X], stream=stream, **sent)

    assert {name: chain.asked()[name] for name in reached} == reached


@pytest.mark.spec("ORCH-3071-006")
@pytest.mark.parametrize("stream", [False, True])
def test_each_answer_has_the_request_s_id_and_the_engine_s_parameters(chain: OneProcess, stream: bool) -> None:
    told = {"tell_i": 7, "tell_b": True, "tell_d": 0.25, "tell_s": "é"}

    answer = chain.ask("infer", model=UNARY, tensors=[X], request_id="r1", parameters=told, stream=stream)

    [response] = answer if stream else [answer]
    assert response["id"] == "r1"
    assert response["parameters"] == {
        "tell_i": ["int64_param", 7], "tell_b": ["bool_param", True], "tell_d": ["double_param", 0.25],
        "tell_s": ["string_param", "é"],
    }  # fmt: skip


@pytest.mark.spec("ORCH-3071-007")
@pytest.mark.parametrize("parameters, finals", [
    ({"responses": 3}, [False, False, True]), ({"responses": 2, "unflagged": 1}, [False, False, True]),
    ({"responses": 0}, [True]),
])  # fmt: skip
def test_who_asks_for_an_empty_final_response_is_told_the_end_once(
    chain: OneProcess, parameters: dict[str, int], finals: list[bool]
) -> None:
    answers = chain.ask("infer", model=STREAMING, tensors=[X], parameters=parameters, stream=True,
                        enable_empty_final_response=True)  # fmt: skip

    assert [answer["parameters"]["triton_final_response"] for answer in answers] == [["bool_param", f] for f in finals]
    assert [len(answer["outputs"]) for answer in answers].count(1) == parameters["responses"]


@pytest.mark.spec("ORCH-3071-007")
@pytest.mark.parametrize("responses", [0, 1, 3])
def test_who_does_not_ask_gets_the_answers_alone(chain: OneProcess, responses: int) -> None:
    answers = chain.ask("infer", model=STREAMING, tensors=[X], parameters={"responses": responses}, stream=True)

    assert len(answers) == responses
    assert not any("triton_final_response" in answer["parameters"] for answer in answers)


@pytest.mark.spec("ORCH-3071-014")
@pytest.mark.parametrize("model", [STREAMING, UNARY])
def test_a_model_that_takes_text_too_is_described_by_its_own_tensors(chain: OneProcess, model: str) -> None:
    told = chain.ask("model", name=model)

    assert [spec["name"] for spec in told["metadata"]["inputs"]] == ["x"]
    assert [spec["name"] for spec in told["config"]["input"]] == ["x"]


@pytest.mark.spec("ORCH-3071-005", "ORCH-3071-006")
def test_what_dynamo_s_frontend_drops_is_as_the_readme_says(chain: OneProcess) -> None:
    """The table in dynamo_worker/README.md; a version of Dynamo that hands it over makes this fail."""
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    answer = chain.ask("infer", model=UNARY, tensors=[X], model_version="9", headers={"traceparent": trace})

    assert answer["version"] == "1"
    assert (chain.asked()["version"], chain.asked()["traceparent"]) == (None, None)


# -- Text --------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("path, body", [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
@pytest.mark.parametrize("sent, reached", [
    ({"seed": 3, "temperature": 0.5, "top_p": 0.25, "top_k": 4}, {"seed": 3, "temperature": 0.5, "top_p": 0.25}),
    ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}),
    ({"max_tokens": 2}, {"max_tokens": 2}),
    ({"stop": ["z"]}, {"stop": ["z"]}),
    ({"presence_penalty": 0.5, "frequency_penalty": -0.5}, {"presence_penalty": 0.5, "frequency_penalty": -0.5}),
    ({"repetition_penalty": 1.5, "min_tokens": 1}, {"repetition_penalty": 1.5, "min_tokens": 1}),
])  # fmt: skip
def test_what_a_text_request_asks_for_reaches_the_engine(
    chain: OneProcess, path: str, body: dict[str, Any], sent: dict[str, Any], reached: dict[str, Any]
) -> None:
    assert chain.ask("post", path=path, body={**body, **sent})["status"] == 200
    assert {name: chain.asked()[name] for name in reached} == reached


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("sent, reached", [
    ({"max_completion_tokens": 2}, {"max_tokens": 2}),
    ({"chat_template_kwargs": {"a": 1}}, {"chat_template_kwargs": {"a": 1}}),
    ({"reasoning_effort": "low"}, {"chat_template_kwargs": {"reasoning_effort": "low"}}),
    ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json"}}),
    ({"guided_regex": "a+"}, {"response_format": {"type": "regex", "regex": "a+"}}),
    ({"logprobs": True, "top_logprobs": 2}, {"logprobs": 2}),
    ({"min_p": 0.5, "ignore_eos": True}, {"parameters": {"mock.min_p": 0.5, "mock.ignore_eos": True}}),
    ({"user": "u", "metadata": {"a": "b"}, "store": True}, {}),
])  # fmt: skip
def test_what_a_chat_alone_asks_for_reaches_the_engine(
    chain: OneProcess, sent: dict[str, Any], reached: dict[str, Any]
) -> None:
    """The engine may refuse it: it is then by its own word."""
    told = chain.ask("post", path="/v1/chat/completions", body={**CHAT, **sent})

    assert told["status"] == 200 or told["body"]["message"].startswith(f"model '{STREAMING}'")
    asked = chain.asked()
    for name, value in reached.items():
        found = asked[name]
        if isinstance(value, dict):  # Dynamo adds thinking to the effort
            found = {key: each for key, each in found.items() if key in value}
        assert found == value


@pytest.mark.spec("ORCH-3071-013")
def test_a_chat_is_answered_with_thoughts_calls_usage_and_a_reason(chain: OneProcess) -> None:
    whole = chain.ask("post", path="/v1/chat/completions", body={**CHAT, "tools": TOOLS})["body"]
    streamed = chain.ask("post", path="/v1/chat/completions", body={
        **CHAT, "tools": TOOLS, "stream": True, "stream_options": {"include_usage": True},
    })["events"]  # fmt: skip

    [choice] = whole["choices"]
    assert (choice["finish_reason"], choice["message"]["reasoning_content"]) == ("tool_calls", "hm")
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    ]
    assert whole["usage"]["completion_tokens"] == streamed[-1]["usage"]["completion_tokens"] > 0
    deltas = [choice["delta"] for event in streamed for choice in event["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm"
    assert "".join(call["function"].get("arguments", "") for call in calls) == '{"at": "it"}'


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_is_its_text(chain: OneProcess, stream: bool) -> None:
    told = chain.ask("post", path="/v1/completions", body={**COMPLETION, "stream": stream})

    chunks = told["events"] if stream else [told["body"]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == REPLY
    assert [choice["finish_reason"] for choice in choices if choice.get("finish_reason")] == ["stop"]


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("field", [{"n": 2}, {"ignore_eos": True}, {"min_p": 0.5}, {"logit_bias": {"1": 2}}])
def test_what_the_engine_has_not_is_refused_by_name(chain: OneProcess, field: dict[str, Any]) -> None:
    told = chain.ask("post", path="/v1/chat/completions", body={**CHAT, **field})

    assert (told["status"], next(iter(field)) in told["body"]["message"]) == (400, True)


# -- Errors, cancels, deadlines ----------------------------------------------------------------------------------------

HTTP = {"InvalidRequest": 400, "RateLimited": 429, "DeadlineExceeded": 504, "NotFound": 404, "Conflict": 409,
        "Internal": 500, "Unavailable": 503}  # fmt: skip
NOBODY = {code for code, fault in FAULTS.items() if fault.exception == "WorkerUnavailable"}


@pytest.mark.spec("ORCH-3071-008")
@pytest.mark.parametrize("code", sorted(FAULTS.keys() - NOBODY))
def test_each_error_is_told_in_its_class(chain: OneProcess, code: str) -> None:
    fault, told = FAULTS[code], chain.ask("raises", code=code, model=FAILING)

    [in_band] = told["stream"]
    assert in_band["text"].startswith(f"{fault.told}: ")
    assert "as asked for" in in_band["text"]
    if fault.told == "Unavailable":  # the frontend keeps the text of these to itself
        assert told["kserve"]["status"] == "StatusCode.UNAVAILABLE"
    else:
        assert told["kserve"]["status"] == "StatusCode.INTERNAL"
        assert told["kserve"]["text"].endswith(in_band["text"])
    assert told["http"]["status"] == HTTP[fault.told], told
    assert chain.ask("ready", models=[FAILING]) == [True]  # the worker is not left out for it


@pytest.mark.spec("ORCH-3071-008", "ORCH-3071-009")
@pytest.mark.parametrize("code", sorted(NOBODY))
def test_an_engine_that_can_serve_nobody_is_left_out_for_that_model_alone(chain: OneProcess, code: str) -> None:
    told = chain.ask("raises", code=code, model=DYING)

    assert told["kserve"]["status"] == "StatusCode.UNAVAILABLE"
    assert told["http"]["status"] == 503
    assert chain.ask("ready", models=[STREAMING]) == [True]


@pytest.mark.spec("ORCH-3071-003")
@pytest.mark.parametrize("asked", [
    {"what": "infer", "model": UNARY, "tensors": [X], "parameters": {"wait": 1}, "client_timeout": 0.1},
    {"what": "infer", "model": STREAMING, "tensors": [X], "parameters": {"wait": 1}, "client_timeout": 0.1},
    {"what": "infer", "model": STREAMING, "tensors": [X], "parameters": {"wait_after": 1, "responses": 2},
     "stream": True, "leave_after": 2},
    {"what": "dropped", "body": {**COMPLETION, "prompt": "wait after one", "stream": True}},
], ids=["unary", "unary on a stream's model", "stream", "HTTP"])  # fmt: skip
def test_a_client_that_leaves_is_cancelled_at_the_engine(chain: OneProcess, asked: dict[str, Any]) -> None:
    before = chain.cancelled()

    chain.ask(**asked)

    chain.until(lambda: chain.cancelled() == before + 1, "the engine stops for a client that is gone")
