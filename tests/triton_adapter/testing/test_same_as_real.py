"""Every test here runs against the real Triton and against the fake: what one answers, the other does.

The clients are not ours: plain grpc with tritonclient's messages, tritonclient's aio client, and http.client.
Two things are missing, because they kill Triton 2.51 now and then: `triton_grpc_error`, even when a single error with
the final flag is all there is, and a stream with a request to a decoupled model beside one to a model that is not.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb

from tests.triton_adapter.testing.conftest import Server
from tests.triton_adapter.testing.demo_models import STATEFUL, STATEFUL_CODE
from tests.triton_adapter.testing.v2client import (
    EMPTY_FINAL,
    Status,
    V2Client,
    bytes_of,
    floats,
    infer_request,
    is_final,
    text_request,
    texts_of,
)

LEFT = ("INPUT0", "FP32", [1, 4], floats(1, 2, 3, 4))
RIGHT = ("INPUT1", "FP32", [1, 4], floats(1, 1, 1, 1))
QUICK = {"delay_ms": 0}
NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try "
    "setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
MISSING = "Please provide all required input(s)."
RESERVED = (
    "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting with "
    "'triton_' are allowed: triton_enable_empty_final_response"
)
BAD_VERSION = (
    "failed to get model version from specified version string 'abc' (details: stol), version should be an integral "
    "value > 0"
)


def addsub(*inputs: Any, **kwargs: Any) -> Any:
    return infer_request("addsub", inputs or (LEFT, RIGHT), **kwargs)


def identity(datatype: str, shape: list[int], data: bytes) -> Any:
    return infer_request("tensors", [(f"{datatype}_IN", datatype, shape, data)])


REFUSALS = {
    "unknown model": (infer_request("nope"), "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
    "unknown version": (
        addsub(version="9"), "NOT_FOUND", "Request for unknown model: 'addsub' version 9 is not found",
    ),
    "version zero": (addsub(version="0"), "NOT_FOUND", "Request for unknown model: 'addsub' version 0 is not found"),
    "version of letters": (addsub(version="abc"), "INVALID_ARGUMENT", BAD_VERSION),
    "version below zero": (
        addsub(version="-1"), "INVALID_ARGUMENT",
        "invalid model version specified '-1' , version should be an integral value > 0",
    ),
    "missing input": (
        addsub(LEFT), "INVALID_ARGUMENT",
        "[request id: r1] expected 2 inputs but got 1 inputs for model 'addsub'. Got input(s) ['INPUT0'], but missing "
        f"required input(s) ['INPUT1']. {MISSING}",
    ),
    "missing input, no request id": (
        addsub(LEFT, request_id=""), "INVALID_ARGUMENT",
        "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'addsub'. Got input(s) ['INPUT0'], "
        f"but missing required input(s) ['INPUT1']. {MISSING}",
    ),
    "one input too many": (
        addsub(LEFT, RIGHT, ("zzz", "FP32", [1], floats(1))), "INVALID_ARGUMENT",
        "[request id: r1] expected 2 inputs but got 3 inputs for model 'addsub'. Got input(s) ['zzz','INPUT1',"
        f"'INPUT0'], but missing required input(s) ]. {MISSING}",
    ),
    "unexpected input": (
        infer_request("tensors", [("zzz", "FP32", [1], floats(1))]), "INVALID_ARGUMENT",
        "unexpected inference input 'zzz' for model 'tensors'",
    ),
    "no input where all are optional": (
        infer_request("tensors"), "INVALID_ARGUMENT", "[request id: r1] out of bounds index 0: request has 0 inputs",
    ),
    "unknown output": (
        addsub(outputs=["nope"]), "INVALID_ARGUMENT", "unexpected inference output 'nope' for model 'addsub'",
    ),
    "wrong datatype": (
        addsub(("INPUT0", "INT32", [1, 4], floats(1, 2, 3, 4)), RIGHT), "INVALID_ARGUMENT",
        "[request id: r1] inference input 'INPUT0' data-type is 'INT32', but model 'addsub' expects 'FP32'",
    ),
    "no datatype at all": (
        addsub(("INPUT0", "STRING", [1, 4], floats(1, 2, 3, 4)), RIGHT), "INVALID_ARGUMENT",
        "[request id: r1] inference input 'INPUT0' data-type is '<invalid>', but model 'addsub' expects 'FP32'",
    ),
    "wrong dimension": (
        addsub(("INPUT0", "FP32", [1, 3], floats(1, 2, 3)), RIGHT), "INVALID_ARGUMENT",
        "[request id: r1] unexpected shape for input 'INPUT0' for model 'addsub'. Expected [-1,4], got [1,3]. "
        f"{NOTE}",
    ),
    "no shape": (
        addsub(("INPUT0", "FP32", [], floats(1, 2, 3, 4)), RIGHT), "INVALID_ARGUMENT",
        "[request id: r1] input 'INPUT0' has no shape but model requires batch dimension for 'addsub'",
    ),
    "different batches": (
        addsub(("INPUT0", "FP32", [2, 4], floats(*range(8))), RIGHT), "INVALID_ARGUMENT",
        "[request id: r1] input 'INPUT0' batch size does not match other inputs for 'addsub'",
    ),
    "batch too big": (
        addsub(*((name, "FP32", [9, 4], floats(*range(36))) for name in ("INPUT0", "INPUT1"))), "INVALID_ARGUMENT",
        "[request id: r1] inference request batch-size must be <= 8 for 'addsub'",
    ),
    "too few bytes": (
        addsub(("INPUT0", "FP32", [1, 4], floats(1, 2, 3)), RIGHT), "INVALID_ARGUMENT",
        "[request id: r1] input byte size mismatch for input 'INPUT0' for model 'addsub'. Expected 16, got 12",
    ),
    "too few strings": (
        identity("BYTES", [1, 2], bytes_of("a")), "INVALID_ARGUMENT",
        "[request id: r1] expected 2 string elements for inference input 'BYTES_IN' for model 'tensors', got 1",
    ),
    "too many strings": (
        identity("BYTES", [1, 1], bytes_of("a", "b")), "INVALID_ARGUMENT",
        "[request id: r1] unexpected number of string elements 2 for inference input 'BYTES_IN' for model 'tensors', "
        "expecting 1",
    ),
    "a string cut off": (
        identity("BYTES", [1, 1], b"\x10\0\0\0ab"), "INVALID_ARGUMENT",
        "incomplete string data for inference input 'BYTES_IN', expecting string of length 16 but only 2 bytes "
        "available",
    ),
    "a string's length cut off": (
        identity("BYTES", [1, 1], b"\x10\0\0"), "INVALID_ARGUMENT",
        "[request id: r1] incomplete string length indicator for inference input 'BYTES_IN' for model 'tensors', "
        "expecting 4 bytes but only 3 bytes available. Please make sure the string length indicator is in one buffer.",
    ),
    "no data": (
        addsub(LEFT, (*RIGHT[:3], None)), "INVALID_ARGUMENT",
        "unable to find data for input tensor 'INPUT1' for model 'addsub' in request.",
    ),
    "the same input twice": (
        addsub(LEFT, LEFT, RIGHT), "INVALID_ARGUMENT", "[request id: r1] input 'INPUT0' already exists in request",
    ),
    "parameter of a type that is not allowed": (
        addsub(parameters={"u": ("uint64_param", 5)}), "INVALID_ARGUMENT",
        "invalid value type for 'u' parameter, expected int64_param, bool_param, or string_param.",
    ),
    "reserved parameter": (addsub(parameters={"triton_foo": True}), "INVALID_ARGUMENT", RESERVED),
    "empty final asked for by a number": (
        addsub(parameters={"triton_enable_empty_final_response": 1}), "INVALID_ARGUMENT",
        "invalid value type for 'triton_enable_empty_final_response' parameter, expected bool_param.",
    ),
    "timeout as text": (
        addsub(parameters={"timeout": "5"}), "INVALID_ARGUMENT",
        "invalid value type for 'timeout' parameter, expected int64_param.",
    ),
    "priority below zero": (
        addsub(parameters={"priority": -1}), "INVALID_ARGUMENT", "invalid value for 'priority', expected value >= 0.",
    ),
    "priority as text": (
        addsub(parameters={"priority": "1"}), "INVALID_ARGUMENT",
        "invalid value type for 'priority' parameter, expected int64_param or uint64_param.",
    ),
    "sequence id as a fraction": (
        addsub(parameters={"sequence_id": 1.5}), "INVALID_ARGUMENT",
        "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_request_has_its_status_and_words(client: V2Client, case: str) -> None:
    request, code, text = REFUSALS[case]

    assert client.infer(request) == Status(code, text)


@pytest.mark.parametrize("case", REFUSALS)
def test_a_stream_says_the_same_words_in_band_and_stays_ok(client: V2Client, case: str) -> None:
    request, _, text = REFUSALS[case]

    messages, status = client.stream(request)

    assert status is None
    assert [message.error_message for message in messages] == [text]
    assert messages[0].infer_response.id == request.id


def test_a_refusal_on_a_stream_has_no_final_flag_and_names_no_model(client: V2Client) -> None:
    (message,), _ = client.stream(infer_request("nope"))

    assert is_final(message) is None
    assert message.infer_response.model_name == ""


def test_a_decoupled_model_is_not_for_unary_calls(client: V2Client) -> None:
    refused = client.infer(text_request("slow"))

    assert refused == Status("UNIMPLEMENTED", "ModelInfer RPC doesn't support models with decoupled transaction policy")


def typed_request(name: str, datatype: str, field: str, values: list[Any]) -> Any:
    request = infer_request("tensors", [(name, datatype, [1, len(values)], None)])
    getattr(request.inputs[0].contents, field).extend(values)
    return request


@pytest.mark.parametrize(
    "name, field, values, expected",
    [
        ("INT8", "int_contents", [1, -1], b"\x01\xff"),
        ("BYTES", "bytes_contents", [b"a", b""], bytes_of("a", "")),
        ("FP32", "fp32_contents", [1.0], floats(1)),
        ("BOOL", "bool_contents", [True, False], b"\x01\x00"),
        ("UINT64", "uint64_contents", [2**64 - 1], b"\xff" * 8),
    ],
)
def test_typed_contents_go_in_and_raw_contents_come_out(
    client: V2Client, name: str, field: str, values: list[Any], expected: bytes
) -> None:
    response = client.infer(typed_request(f"{name}_IN", name, field, values))

    assert list(response.raw_output_contents) == [expected]


def test_typed_contents_of_another_type_are_refused(client: V2Client) -> None:
    assert client.infer(typed_request("FP16_IN", "FP16", "fp32_contents", [1.0])) == Status(
        "INVALID_ARGUMENT",
        "unexpected explicit tensor data for input tensor 'FP16_IN' for model 'tensors' of type 'FP32', expected "
        "datatype 'FP16'",
    )


def test_raw_and_typed_contents_do_not_mix(client: V2Client) -> None:
    request = addsub()
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])

    assert client.infer(request) == Status(
        "INVALID_ARGUMENT",
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'addsub'",
    )


def test_a_surplus_raw_entry_is_ignored(client: V2Client) -> None:
    request = addsub()
    request.raw_input_contents.append(b"x")

    assert client.infer(request).outputs[0].name == "SUM"


@pytest.mark.parametrize("version", ["1", "01", "1x", " 1"])
def test_a_version_is_read_as_c_reads_a_number(client: V2Client, version: str) -> None:
    assert client.infer(addsub(version=version)).model_version == "1"


@pytest.mark.parametrize(
    "asked, sent", [([], ["SUM", "DIFFERENCE"]), (["DIFFERENCE", "SUM"], ["SUM", "DIFFERENCE"]), (["SUM"], ["SUM"])]
)
def test_outputs_come_in_the_order_of_the_model(client: V2Client, asked: list[str], sent: list[str]) -> None:
    response = client.infer(addsub(outputs=asked))

    assert [output.name for output in response.outputs] == sent
    assert len(response.raw_output_contents) == len(sent)


def test_a_unary_response_has_no_final_flag_and_echoes_the_id(client: V2Client) -> None:
    response = client.infer(addsub(request_id="some id"))

    assert (response.id, response.model_name, response.model_version) == ("some id", "addsub", "1")
    assert not response.parameters


def test_zero_size_tensors_pass(client: V2Client) -> None:
    response = client.infer(identity("FP32", [1, 0], b""))

    assert list(response.outputs[0].shape) == [1, 0]
    assert response.raw_output_contents[0] == b""


def test_a_coupled_model_on_a_stream_answers_once_with_the_flag(client: V2Client) -> None:
    (message,), status = client.stream(addsub(parameters=EMPTY_FINAL))

    assert status is None
    assert is_final(message) is True
    assert len(message.infer_response.outputs) == 2


def test_every_message_of_a_stream_carries_the_final_flag(client: V2Client) -> None:
    messages, status = client.stream(text_request("slow", "a b", parameters={"max_tokens": 3, **QUICK, **EMPTY_FINAL}))

    assert status is None
    assert texts_of(messages) == [b"a ", b"b ", b"a "]
    assert [is_final(message) for message in messages] == [False, False, True]
    assert {message.infer_response.model_version for message in messages} == {"1"}


@pytest.mark.parametrize("version", ["", "1"])
def test_an_empty_final_message_comes_when_asked_for_and_repeats_the_version_asked(
    client: V2Client, version: str
) -> None:
    parameters = {"max_tokens": 0, **QUICK, **EMPTY_FINAL}

    (message,), _ = client.stream(text_request("slow", parameters=parameters, version=version))

    response = message.infer_response
    assert is_final(message) is True
    assert (response.id, response.model_name, response.model_version) == ("r1", "slow", version)
    assert not response.outputs


def test_without_asking_a_request_without_tokens_is_answered_by_nothing(client: V2Client) -> None:
    assert client.stream(text_request("slow", parameters={"max_tokens": 0})) == ([], None)


def test_a_stream_that_ends_with_a_flag_alone_ends_without_it_when_not_asked(client: V2Client) -> None:
    messages, _ = client.stream(text_request("splitter", "ab"))

    assert [is_final(message) for message in messages] == [False, False]


def test_a_failure_on_a_stream_names_the_model_but_not_the_version(client: V2Client) -> None:
    messages, status = client.stream(text_request("midfail", parameters={"tokens": 1, **EMPTY_FINAL}))

    response = messages[-1].infer_response
    assert status is None
    assert messages[-1].error_message == "midfail was asked to fail here"
    assert (response.id, response.model_name, response.model_version) == ("r1", "midfail", "")
    assert [is_final(message) for message in messages] == [False, True]


@pytest.mark.parametrize("extra, flags", [({}, [False, False, False]), (EMPTY_FINAL, [False, False, False, True])])
def test_a_failure_may_be_followed_by_more_tokens(client: V2Client, extra: dict[str, Any], flags: list[bool]) -> None:
    parameters = {"tokens": 1, "final": False, "then_tokens": 1, **extra}

    messages, _ = client.stream(text_request("midfail", parameters=parameters))

    assert [is_final(message) for message in messages] == flags
    assert [bool(message.error_message) for message in messages[:3]] == [False, True, False]


def test_requests_on_one_stream_go_on_after_one_of_them_failed(client: V2Client) -> None:
    good = text_request("slow", "a b", parameters={"max_tokens": 2, **QUICK}, request_id="good")

    # The refusal first: Triton 2.51 aborts when it writes one while anything else of the same stream is being written,
    # which may be so for a moment after that has arrived here.
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    call = client.open_stream_of(iter(outbox.get, None))
    messages: list[Any] = []
    try:
        for request in (infer_request("nope", request_id="bad"), good):
            outbox.put(request)
            while not messages or messages[-1].infer_response.id != request.id or not is_over(messages[-1]):
                messages.append(next(call))
    finally:
        outbox.put(None)

    assert list(call) == []
    assert [message.infer_response.id for message in messages] == ["bad", "good", "good"]


def is_over(message: Any) -> bool:
    return bool(message.error_message or is_final(message))


def test_coupled_requests_on_one_stream_are_answered_in_their_order(client: V2Client) -> None:
    messages, status = client.stream(*(addsub(request_id=str(index)) for index in range(10)))

    assert status is None
    assert [message.infer_response.id for message in messages] == [str(index) for index in range(10)]


def test_bytes_of_a_character_cut_in_two_arrive_as_they_are(client: V2Client) -> None:
    messages, _ = client.stream(text_request("splitter", "é", parameters=EMPTY_FINAL))

    assert texts_of(messages) == [b"\xc3", b"\xa9"]


def test_a_deadline_ends_a_stream(client: V2Client) -> None:
    request = text_request("slow", parameters={"delay_ms": 10_000})

    messages, status = client.stream(request, timeout_s=0.2)

    assert messages == []
    assert status is not None
    assert status.code == "DEADLINE_EXCEEDED"


# ---- what the server tells about itself


def test_readiness_of_what_does_not_exist_is_false_and_no_error(client: V2Client) -> None:
    ready = client.call("ModelReady", pb.ModelReadyRequest(name="addsub"))
    unknown = client.call("ModelReady", pb.ModelReadyRequest(name="nope"))
    unknown_version = client.call("ModelReady", pb.ModelReadyRequest(name="addsub", version="9"))
    bad_version = client.call("ModelReady", pb.ModelReadyRequest(name="addsub", version="abc"))

    assert [answer.ready for answer in (ready, unknown, unknown_version)] == [True, False, False]
    assert bad_version == Status("INVALID_ARGUMENT", BAD_VERSION)


@pytest.mark.parametrize("call", ["ModelMetadata", "ModelConfig"])
def test_descriptions_of_what_does_not_exist_are_not_found(client: V2Client, call: str) -> None:
    request_type = getattr(pb, f"{call}Request")

    assert client.call(call, request_type(name="nope")) == Status(
        "NOT_FOUND", "Request for unknown model: 'nope' is not found"
    )
    assert client.call(call, request_type(name="addsub", version="9")) == Status(
        "NOT_FOUND", "Request for unknown model: 'addsub' version 9 is not found"
    )


def test_the_server_names_itself(client: V2Client) -> None:
    metadata = client.call("ServerMetadata", pb.ServerMetadataRequest())

    assert (metadata.name, metadata.version) == ("triton", "2.51.0")
    assert list(metadata.extensions)[:3] == ["classification", "sequence", "model_repository"]
    assert len(metadata.extensions) == 13


@pytest.mark.parametrize(
    "model, shapes",
    [("addsub", {"INPUT0": [-1, 4], "INPUT1": [-1, 4], "SUM": [-1, 4], "DIFFERENCE": [-1, 4]}),
     ("slow", {"text_input": [1], "text_output": [-1]})],
)  # fmt: skip
def test_metadata_shows_the_batch_dimension(client: V2Client, model: str, shapes: dict[str, list[int]]) -> None:
    metadata = client.call("ModelMetadata", pb.ModelMetadataRequest(name=model))

    assert {tensor.name: list(tensor.shape) for tensor in (*metadata.inputs, *metadata.outputs)} == shapes
    assert (metadata.platform, list(metadata.versions)) == ("python", ["1"])


def test_the_configuration_shows_what_the_server_filled_in(client: V2Client) -> None:
    config = client.call("ModelConfig", pb.ModelConfigRequest(name="addsub")).config
    slow = client.call("ModelConfig", pb.ModelConfigRequest(name="slow")).config

    assert (config.backend, config.platform, config.default_model_filename) == ("python", "", "model.py")
    assert config.version_policy.latest.num_versions == 1
    assert config.instance_group[0].name == "addsub_0"
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert slow.model_transaction_policy.decoupled
    assert slow.parameters["DELAY_MS"].string_value == "50"


def test_statistics_count_what_ran(client: V2Client) -> None:
    def count() -> int:
        stats = client.call("ModelStatistics", pb.ModelStatisticsRequest(name="addsub")).model_stats
        return int(stats[0].inference_stats.success.count)

    before = count()
    client.infer(addsub())

    # The server counts after it has answered, so it may have to be asked again.
    deadline = time.monotonic() + 5
    while count() == before and time.monotonic() < deadline:
        client.call("ServerLive", pb.ServerLiveRequest())
    assert count() == before + 1


def test_statistics_of_what_does_not_exist_are_an_invalid_argument(client: V2Client) -> None:
    assert client.call("ModelStatistics", pb.ModelStatisticsRequest(name="nope")) == Status(
        "INVALID_ARGUMENT", "requested model 'nope' is not available"
    )
    assert client.call("ModelStatistics", pb.ModelStatisticsRequest(name="addsub", version="9")) == Status(
        "INVALID_ARGUMENT", "requested model version is not available for model 'addsub'"
    )


def test_an_unloaded_model_has_no_available_versions_until_it_is_loaded_again(client: V2Client) -> None:
    client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="addsub"))
    try:
        without_version = client.infer(addsub())
        with_version = client.infer(addsub(version="1"))
        ready = client.call("ModelReady", pb.ModelReadyRequest(name="addsub")).ready
        config = client.call("ModelConfig", pb.ModelConfigRequest(name="addsub"))
        index = client.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    finally:
        client.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="addsub"))

    assert without_version == Status("NOT_FOUND", "Request for unknown model: 'addsub' has no available versions")
    assert with_version == Status("UNAVAILABLE", "Request for unknown model: 'addsub' version 1 is not at ready state")
    assert not ready
    assert config == without_version
    assert "addsub" not in {entry.name for entry in index.models}
    assert client.infer(addsub()).model_name == "addsub"


def test_loading_what_does_not_exist_fails_and_unloading_it_does_not(client: V2Client) -> None:
    load = client.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="nope"))
    unload = client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="nope"))

    assert load == Status("INTERNAL", "failed to load 'nope', failed to poll from model repository")
    assert unload == pb.RepositoryModelUnloadResponse()


@pytest.fixture
def stateful(client: V2Client) -> Iterator[str]:
    """A model with state, brought to the server with its configuration and its code."""
    load = pb.RepositoryModelLoadRequest(model_name="stateful")
    load.parameters["config"].string_param = json.dumps(STATEFUL)
    load.parameters["file:1/model.py"].bytes_param = STATEFUL_CODE
    assert client.call("RepositoryModelLoad", load) == pb.RepositoryModelLoadResponse()
    yield "stateful"
    client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="stateful"))
    wait_until_ready(client)


def wait_until_ready(client: V2Client) -> None:
    """Return once the server has finished with what it unloads; until then it does not call itself ready."""
    deadline = time.monotonic() + 20
    while not client.call("ServerReady", pb.ServerReadyRequest()).ready:
        assert time.monotonic() < deadline, "a model is still being unloaded"


def test_a_sequence_has_an_id_and_a_start(client: V2Client, stateful: str) -> None:
    no_start = Status(
        "INVALID_ARGUMENT",
        "inference request for sequence 42 to model 'stateful' must specify the START flag on the first request of the "
        "sequence",
    )
    no_id = Status(
        "INVALID_ARGUMENT",
        "inference request to model 'stateful' must specify a non-zero or non-empty correlation ID",
    )

    def send(**parameters: Any) -> Status | None:
        given = [("X", "INT32", [1, 1], b"\1\0\0\0")]
        answer = client.infer(infer_request(stateful, given, parameters=parameters))
        return answer if isinstance(answer, Status) else None

    without_id = [send(), send(sequence_id=0), send(sequence_id="")]
    unstarted = send(sequence_id=42)
    in_order = [
        send(sequence_id=42, sequence_start=True),
        send(sequence_id=42),
        send(sequence_id=42, sequence_end=True),
    ]
    after_its_end = send(sequence_id=42)
    started_twice = [send(sequence_id=43, sequence_start=True), send(sequence_id=43, sequence_start=True)]
    send(sequence_id=43, sequence_end=True)

    assert without_id == [no_id] * 3
    assert unstarted == no_start
    assert in_order == [None] * 3
    assert after_its_end == no_start
    assert started_twice == [None] * 2


def test_the_index_knows_no_repositories_by_name(client: V2Client) -> None:
    assert client.call("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="x")) == Status(
        "UNIMPLEMENTED", "'repository_name' specification is not supported"
    )


def test_settings_of_log_and_trace_can_be_read(client: V2Client) -> None:
    log = client.call("LogSettings", pb.LogSettingsRequest()).settings
    trace = client.call("TraceSetting", pb.TraceSettingRequest()).settings

    assert log["log_format"].string_param == "default"
    assert list(trace["trace_level"].value) == ["OFF"]


def test_a_call_that_does_not_exist_is_unimplemented_without_a_word(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/Nope")
        with pytest.raises(grpc.RpcError) as raised:
            method(b"", timeout=5)

    assert (raised.value.code().name, raised.value.details()) == ("UNIMPLEMENTED", "")


def health_check(server: Server, service: bytes = b"") -> bytes:
    with grpc.insecure_channel(server.grpc_address) as channel:
        answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(service, timeout=5)
    return answer


def test_the_standard_health_check_serves_any_name(server: Server) -> None:
    assert health_check(server, b"\x0a\x04nope") == b"\x08\x01"


def test_while_a_model_unloads_its_stream_goes_on_and_the_server_is_not_ready(client: V2Client, server: Server) -> None:
    parameters = {"max_tokens": 20, "delay_ms": 20, **EMPTY_FINAL}
    call = client.open_stream(text_request("slow", parameters=parameters))
    messages = [next(call)]
    client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="slow"))
    try:
        index = client.call("RepositoryIndex", pb.RepositoryIndexRequest()).models
        ready = client.call("ServerReady", pb.ServerReadyRequest()).ready
        serving = health_check(server)
        live = client.call("ServerLive", pb.ServerLiveRequest()).live
        messages += call
    finally:
        client.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="slow"))
        wait_until_ready(client)

    assert {entry.name: entry.state for entry in index}["slow"] == "UNLOADING"
    assert (ready, live, serving) == (False, True, b"\x08\x02")
    assert len(texts_of(messages)) == 20


# ---- tritonclient, as its users use it


@pytest.mark.anyio
async def test_tritonclient_infers_with_arrays(server: Server) -> None:
    left, right = np.array([[1, 2, 3, 4]], np.float32), np.ones((1, 4), np.float32)
    inputs = [triton_aio.InferInput(name, [1, 4], "FP32") for name in ("INPUT0", "INPUT1")]
    inputs[0].set_data_from_numpy(left)
    inputs[1].set_data_from_numpy(right)

    async with triton_aio.InferenceServerClient(server.grpc_address) as client:
        assert await client.is_model_ready("addsub")
        result = await client.infer("addsub", inputs, request_id="x", client_timeout=5)

    np.testing.assert_array_equal(result.as_numpy("SUM"), left + right)
    np.testing.assert_array_equal(result.as_numpy("DIFFERENCE"), left - right)


@pytest.mark.anyio
async def test_tritonclient_streams_until_the_final_flag(server: Server) -> None:
    prompt = triton_aio.InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(np.array([b"a b c"], dtype=object))

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "slow", "inputs": [prompt], "parameters": {"max_tokens": 3, "delay_ms": 0}}

    texts, flags = [], []
    async with triton_aio.InferenceServerClient(server.grpc_address) as client:
        async for result, error in client.stream_infer(requests(), stream_timeout=5):
            assert error is None
            texts.append(result.as_numpy("text_output")[0])
            flags.append(result.get_response().parameters["triton_final_response"].bool_param)

    assert texts == [b"a ", b"b ", b"c "]
    assert flags == [False, False, True]


@pytest.mark.anyio
async def test_a_cancelled_stream_is_cancelled_for_its_reader(server: Server) -> None:
    prompt = triton_aio.InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(np.array([b"a"], dtype=object))

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "slow", "inputs": [prompt], "parameters": {"max_tokens": 1000, "delay_ms": 1}}

    async with triton_aio.InferenceServerClient(server.grpc_address) as client:
        results = client.stream_infer(requests(), stream_timeout=5)
        await anext(results)
        results.cancel()
        with pytest.raises(asyncio.CancelledError):
            await _exhaust(results)


async def _exhaust(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


# ---- HTTP


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: Server, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(server.http_address, timeout=10)
    try:
        encoded = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request(method, path, encoded, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def json_addsub(**changes: Any) -> dict[str, Any]:
    inputs = [
        {"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "INPUT1", "datatype": "FP32", "shape": [1, 4], "data": [[1, 1, 1, 1]]},
    ]
    return {"id": "x", "inputs": inputs, **changes}


def changed_input(**changes: Any) -> dict[str, Any]:
    request = json_addsub()
    request["inputs"][0] |= changes
    request["inputs"][0] = {key: value for key, value in request["inputs"][0].items() if value is not None}
    return request


ONE_RESPONSE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various "
    "number of responses"
)
QUIET = {"max_tokens": 1, "delay_ms": 0}
INFER = "/v2/models/addsub/infer"
GENERATE = "/v2/models/slow/generate"
HTTP_ERRORS = {
    "unknown model": (INFER.replace("addsub", "nope"), json_addsub(), 404,
                      "Request for unknown model: 'nope' is not found"),
    "unknown version": ("/v2/models/addsub/versions/9/infer", json_addsub(), 404,
                        "Request for unknown model: 'addsub' version 9 is not found"),
    "version of letters": ("/v2/models/addsub/versions/abc/infer", json_addsub(), 404, "Not Found"),
    "decoupled": ("/v2/models/slow/infer", json_addsub(), 501,
                  "HTTP end point doesn't support models with decoupled transaction policy"),
    "missing input": (INFER, json_addsub(inputs=json_addsub()["inputs"][:1]), 400,
                      "[request id: x] expected 2 inputs but got 1 inputs for model 'addsub'. Got input(s) ['INPUT0'], "
                      f"but missing required input(s) ['INPUT1']. {MISSING}"),
    "wrong datatype": (INFER, changed_input(datatype="INT32"), 400,
                       "[request id: x] inference input 'INPUT0' data-type is 'INT32', but model 'addsub' expects "
                       "'FP32'"),
    "no datatype at all": (INFER, changed_input(datatype="STRING"), 400, "invalid datatype for input INPUT0"),
    "too few elements": (INFER, changed_input(data=[1, 2, 3]), 500,
                         "Unable to parse 'data': Shape does not match true shape of 'data' field"),
    "text for a number": (INFER, changed_input(data=["a", 2, 3, 4]), 500,
                          "Unable to parse 'data': attempt to access JSON non-number as double"),
    "no data": (INFER, changed_input(data=None), 400,
                "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
                "'shared_memory_region' in 'parameters'. But no field is set"),
    "no shape": (INFER, changed_input(shape=None), 500,
                 "Unable to parse 'shape': attempt to access non-existing object member 'shape'"),
    "no inputs": (INFER, {"id": "x"}, 500,
                  "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    "inputs no list": (INFER, {"inputs": 3}, 500,
                       "Unable to parse 'inputs': attempt to access JSON non-array as array"),
    "id no text": (INFER, json_addsub(id=5), 500, "Unable to parse 'id': attempt to access JSON non-string as string"),
    "unknown output": (INFER, json_addsub(outputs=[{"name": "nope"}]), 400,
                       "unexpected inference output 'nope' for model 'addsub'"),
    "reserved parameter": (INFER, json_addsub(parameters={"triton_x": 1}), 400,
                           "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
                           "specified."),
    "timeout as text": (INFER, json_addsub(parameters={"timeout": "a"}), 500,
                        "Unable to parse 'timeout': attempt to access JSON non-unsigned-integer as unsigned-integer"),
    "parameter that is an object": (INFER, json_addsub(parameters={"foo": {"a": 1}}), 400,
                                    "parameter 'foo' has invalid type. It should be either 'int', 'bool', or "
                                    "'string'."),
    "FP16 in JSON": ("/v2/models/tensors/infer",
                     {"inputs": [{"name": "FP16_IN", "datatype": "FP16", "shape": [1, 1], "data": [1]}]}, 400,
                     "receiving FP16 data via JSON is not supported. Please use the binary data format for input "
                     "FP16_IN"),
    "generate without its input": (GENERATE, QUIET, 400,
                                   "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'slow'. "
                                   f"Got input(s) [], but missing required input(s) ['text_input']. {MISSING}"),
    "generate with two where one fits": (GENERATE, {"text_input": ["a", "b"], **QUIET}, 400,
                                         "The schema can not convert input 'text_input' to tensor with proper shape"),
    "generate with an object": (GENERATE, {"text_input": "a", "foo": {"a": 1}}, 400,
                                "parameter 'foo' has invalid type. It should be either 'int', 'bool', or 'string'."),
    "generate with a null": (GENERATE, {"text_input": "a", "foo": None}, 400,
                             "parameter 'foo' has invalid type. It should be either 'int', 'bool', or 'string'."),
    "generate fails": ("/v2/models/midfail/generate", {"text_input": "a", "tokens": 0, "code": "UNAVAILABLE"}, 400,
                       "midfail was asked to fail here"),
    "generate without an answer": (GENERATE, {"text_input": "a", "max_tokens": 0}, 200, ONE_RESPONSE),
    "generate with two answers": (GENERATE, {"text_input": "a", "max_tokens": 2, "delay_ms": 0}, 200, ONE_RESPONSE),
    "stream from an unknown model": ("/v2/models/nope/generate_stream", {"text_input": "a"}, 404,
                                     "Request for unknown model: 'nope' is not found"),
}  # fmt: skip


@pytest.mark.parametrize("case", HTTP_ERRORS)
def test_http_answers_an_error_with_its_status_and_words(server: Server, case: str) -> None:
    path, body, status, text = HTTP_ERRORS[case]

    answer = ask(server, "POST", path, body)

    assert (answer.status, answer.json) == (status, {"error": text})


def test_http_calls_a_client_error_a_server_error_when_the_json_does_not_parse(server: Server) -> None:
    answer = ask(server, "POST", INFER, "{nope")

    assert answer.status == 500
    assert answer.json["error"].startswith("failed to parse the request JSON buffer: ")


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/addsub/ready", 200),
        ("GET", "/v2/models/addsub/versions/1/ready", 200),
        ("GET", "/v2/models/addsub/versions/9/ready", 400),
        ("GET", "/v2/models/nope/ready", 400),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models", 404),
        ("POST", "/v2/health/live", 405),
        ("PUT", "/v2/models/addsub", 405),
        ("GET", INFER, 405),
    ],
)
def test_http_routes_have_their_status(server: Server, method: str, path: str, status: int) -> None:
    assert ask(server, method, path).status == status


def test_http_infers_in_json(server: Server) -> None:
    answer = ask(server, "POST", INFER, json_addsub(outputs=[{"name": "DIFFERENCE"}]))

    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == {
        "id": "x",
        "model_name": "addsub",
        "model_version": "1",
        "outputs": [{"name": "DIFFERENCE", "datatype": "FP32", "shape": [1, 4], "data": [0.0, 1.0, 2.0, 3.0]}],
    }


def test_http_infers_in_binary(server: Server) -> None:
    request = {
        "inputs": [
            {"name": "FP16_IN", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}},
            {"name": "BYTES_IN", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 6}},
        ],
        "parameters": {"binary_data_output": True},
    }
    head, halves, text = json.dumps(request).encode(), b"\0\x3c\0\x40", bytes_of(b"\xff\xfe")

    answer = ask(
        server,
        "POST",
        "/v2/models/tensors/infer",
        head + halves + text,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )

    size = int(answer.headers["Inference-Header-Content-Length"])
    rest, found = answer.body[size:], {}
    for output in json.loads(answer.body[:size])["outputs"]:
        length = output["parameters"]["binary_data_size"]
        found[output["name"]], rest = rest[:length], rest[length:]
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert found == {"FP16_OUT": halves, "BYTES_OUT": text}
    assert rest == b""


@pytest.mark.parametrize(
    "tail, text",
    [
        (floats(1, 2, 3, 4), "unexpected size for input 'INPUT1', expecting 16 additional bytes for model 'addsub'"),
        (floats(*range(9)), "unexpected additional input data for model 'addsub'"),
    ],
)
def test_http_counts_the_binary_bytes(server: Server, tail: bytes, text: str) -> None:
    request = json_addsub()
    for given in request["inputs"]:
        del given["data"]
        given["parameters"] = {"binary_data_size": 16}
    head = json.dumps(request).encode()

    answer = ask(server, "POST", INFER, head + tail, headers={"Inference-Header-Content-Length": str(len(head))})

    assert (answer.status, answer.json) == (400, {"error": text})


def test_http_refuses_a_header_length_beyond_the_body(server: Server) -> None:
    body = json.dumps(json_addsub()).encode()

    answer = ask(server, "POST", INFER, body, headers={"Inference-Header-Content-Length": "99999"})

    assert answer.json == {"error": f"inference header size should be in range (0, {len(body)}), got: 99999"}


def test_http_generate_flattens_and_echoes_the_id(server: Server) -> None:
    answer = ask(server, "POST", GENERATE, {"text_input": "a b", "parameters": QUIET, "id": "g"})

    assert answer.status == 200
    assert answer.json == {"id": "g", "model_name": "slow", "model_version": "1", "text_output": "a "}


def test_http_generate_fills_in_the_batch_dimension(server: Server) -> None:
    answer = ask(server, "POST", "/v2/models/addsub/generate", {"INPUT0": [1, 2, 3, 4], "INPUT1": [1, 1, 1, 1]})

    assert answer.json["SUM"] == [2.0, 3.0, 4.0, 5.0]


def test_http_streams_events_without_a_terminator(server: Server) -> None:
    answer = ask(server, "POST", f"{GENERATE}_stream", {"text_input": "a b", "max_tokens": 2, "delay_ms": 0})

    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.body == (
        b'data: {"model_name":"slow","model_version":"1","text_output":"a "}\n\n'
        b'data: {"model_name":"slow","model_version":"1","text_output":"b "}\n\n'
    )


def test_http_streams_bytes_that_are_no_utf8_as_they_are(server: Server) -> None:
    answer = ask(server, "POST", "/v2/models/splitter/generate_stream", {"text_input": "é"})

    assert b'"text_output":"\xc3"' in answer.body
    assert b'"text_output":"\xa9"' in answer.body


@pytest.mark.parametrize("tokens, status", [(0, 400), (1, 200)])
def test_http_stream_has_an_error_status_only_when_the_error_comes_first(
    server: Server, tokens: int, status: int
) -> None:
    answer = ask(server, "POST", "/v2/models/midfail/generate_stream", {"text_input": "a", "tokens": tokens})

    assert answer.status == status
    assert answer.body.endswith(b'data: {"error":"midfail was asked to fail here"}\n\n')


def test_http_stream_without_a_token_is_empty(server: Server) -> None:
    answer = ask(server, "POST", f"{GENERATE}_stream", {"text_input": "a", "max_tokens": 0})

    assert (answer.status, answer.body) == (200, b"")


def test_http_describes_a_model_as_grpc_does(server: Server) -> None:
    metadata = ask(server, "GET", "/v2/models/slow").json
    config = ask(server, "GET", "/v2/models/slow/config").json

    assert metadata == {
        "name": "slow",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1]}],
        "outputs": [{"name": "text_output", "datatype": "BYTES", "shape": [-1]}],
    }
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert config["input"][0]["data_type"] == "TYPE_STRING"
    assert config["input"][0]["dims"] == [1]
    assert config["parameters"]["DELAY_MS"] == {"string_value": "50"}


def test_http_index_leaves_out_what_is_empty(server: Server) -> None:
    index = ask(server, "POST", "/v2/repository/index", {"ready": True}).json

    assert {"name": "addsub", "version": "1", "state": "READY"} in index
