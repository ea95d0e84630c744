"""Requests as bytes, read back by the independent client's messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from adapter_api import InvalidRequest, RequestedOutput, Sequence, Tensor
from triton_adapter.wire.request import Constant, ShmRef, WireRequest, check_parameters, serialize


def test_the_independent_client_reads_every_field() -> None:
    request = WireRequest(
        "m",
        (Tensor.from_bytes_elements("T", [b"hello", b""], (2, 1)), Tensor("N", "INT32", (1,), b"\x07\0\0\0")),
        "3",
        "job-1",
        (RequestedOutput("A"), RequestedOutput("B", classification=5)),
        {"flag": True, "count": 3, "ratio": 0.5, "name": "x"},
        Sequence(id=42, start=True),
        2,
        1500,
        empty_final_response=True,
    )

    message = service_pb2.ModelInferRequest.FromString(serialize(request))

    assert (message.model_name, message.model_version, message.id) == ("m", "3", "job-1")
    assert [(t.name, t.datatype, list(t.shape)) for t in message.inputs] == [
        ("T", "BYTES", [2, 1]),
        ("N", "INT32", [1]),
    ]
    assert list(message.raw_input_contents) == [b"\5\0\0\0hello\0\0\0\0", b"\7\0\0\0"]
    assert [output.name for output in message.outputs] == ["A", "B"]
    assert message.outputs[1].parameters["classification"].int64_param == 5
    parameters = message.parameters
    assert parameters["flag"].bool_param is True
    assert parameters["count"].int64_param == 3
    assert parameters["ratio"].double_param == 0.5
    assert parameters["name"].string_param == "x"
    assert parameters["sequence_id"].int64_param == 42
    assert parameters["sequence_start"].bool_param is True
    assert parameters["sequence_end"].bool_param is False
    assert parameters["priority"].int64_param == 2
    assert parameters["timeout"].int64_param == 1500
    assert parameters["triton_enable_empty_final_response"].bool_param is True


def test_a_sequence_may_be_named_by_text() -> None:
    message = service_pb2.ModelInferRequest.FromString(serialize(WireRequest("m", (), sequence=Sequence(id="abc"))))

    assert message.parameters["sequence_id"].string_param == "abc"


def test_an_input_in_shared_memory_sends_no_bytes() -> None:
    tensors = (Tensor("A", "UINT8", (3,), b"abc"), Tensor("B", "UINT8", (2,), b"de"))
    request = WireRequest("m", tensors, shm_inputs={"A": ShmRef("region", 3, 64)})

    message = service_pb2.ModelInferRequest.FromString(serialize(request))

    assert list(message.raw_input_contents) == [b"de"]
    assert message.inputs[0].parameters["shared_memory_region"].string_param == "region"
    assert message.inputs[0].parameters["shared_memory_byte_size"].int64_param == 3
    assert message.inputs[0].parameters["shared_memory_offset"].int64_param == 64


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_raw_contents_of_any_size_survive(contents: list[bytes]) -> None:
    tensors = tuple(Tensor(f"T{i}", "UINT8", (len(data),), data) for i, data in enumerate(contents))

    message = service_pb2.ModelInferRequest.FromString(serialize(WireRequest("m", tensors)))

    assert list(message.raw_input_contents) == contents


@pytest.mark.parametrize("key", ["triton_grpc_error", "triton_anything", "sequence_id", "priority", "timeout"])
def test_parameters_that_belong_to_the_protocol_are_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match=key):
        check_parameters({key: 1})


def test_a_number_too_large_for_the_wire_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="64 bits"):
        check_parameters({"n": 2**63})


@given(
    st.lists(st.tuples(st.text(max_size=200), st.text("abcdef0123456789-", max_size=130)), min_size=1, max_size=5),
    st.integers(0, 2),
)
def test_what_messages_have_in_common_changes_nothing_of_what_they_say(
    requests: list[tuple[str, str]], place: int
) -> None:
    constant = Constant(place)

    for text, request_id in requests:
        inputs = [Tensor("A", "UINT8", (3,), b"abc"), Tensor("B", "UINT8", (2,), b"de")]
        inputs.insert(place, Tensor.from_bytes_elements("text_input", [text.encode()]))
        fields = ("m", tuple(inputs), "3", request_id, (RequestedOutput("A"),), {"flag": True})
        shared, alone = WireRequest(*fields, constant=constant), WireRequest(*fields)
        read = service_pb2.ModelInferRequest.FromString
        assert read(serialize(shared)) == read(serialize(alone))


@given(st.lists(st.lists(st.binary(min_size=2, max_size=2), min_size=2, max_size=2), min_size=1, max_size=4))
def test_messages_of_which_every_input_differs_share_their_heads(requests: list[list[bytes]]) -> None:
    constant = Constant()

    for number, contents in enumerate(requests):
        inputs = tuple(Tensor(f"T{place}", "UINT8", (2,), data) for place, data in enumerate(contents))
        shared = WireRequest("m", inputs, request_id=str(number), constant=constant)
        alone = WireRequest("m", inputs, request_id=str(number))
        read = service_pb2.ModelInferRequest.FromString
        assert read(serialize(shared)) == read(serialize(alone))


def test_a_request_shown_in_a_log_quotes_no_parameter() -> None:
    assert "secret" not in repr(WireRequest("m", (), parameters={"name": "secret"}))
