"""Responses from bytes, written by the independent client's messages."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2

from adapter_api import ProtocolViolation
from triton_adapter.schema import RawTensor
from triton_adapter.wire.reply import parse_reply, parse_stream_reply


def test_a_streamed_reply_carries_outputs_version_and_finality() -> None:
    message = service_pb2.ModelStreamInferResponse()
    response = message.infer_response
    response.model_version = "2"
    response.outputs.add(name="text", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(b"\2\0\0\0hi")
    response.parameters["triton_final_response"].bool_param = True
    response.parameters["sequence_id"].int64_param = 0

    reply = parse_stream_reply(message.SerializeToString())

    assert reply.outputs["text"] == RawTensor("BYTES", (1,), b"\2\0\0\0hi")
    assert reply.model_version == "2"
    assert reply.final is True
    assert reply.error is None
    assert reply.parameters == {"sequence_id": 0}


def test_an_error_without_the_parameter_leaves_finality_unsaid() -> None:
    message = service_pb2.ModelStreamInferResponse(error_message="boom")

    reply = parse_stream_reply(message.SerializeToString())

    assert reply.error == "boom"
    assert reply.final is None


@pytest.mark.parametrize(
    "datatype, field, values, data",
    [
        ("BOOL", "bool_contents", [True, False], b"\1\0"),
        ("INT8", "int_contents", [-1, 2], b"\xff\2"),
        ("INT16", "int_contents", [-2], b"\xfe\xff"),
        ("INT32", "int_contents", [7], b"\7\0\0\0"),
        ("INT64", "int64_contents", [1], b"\1" + b"\0" * 7),
        ("UINT8", "uint_contents", [255], b"\xff"),
        ("UINT64", "uint64_contents", [2**64 - 1], b"\xff" * 8),
        ("FP32", "fp32_contents", [1.0], b"\0\0\x80?"),
        ("FP64", "fp64_contents", [0.0], b"\0" * 8),
        ("BYTES", "bytes_contents", [b"a", b""], b"\1\0\0\0a\0\0\0\0"),
    ],
)
def test_typed_contents_of_other_servers_become_raw(
    datatype: str, field: str, values: list[object], data: bytes
) -> None:
    message = service_pb2.ModelInferResponse()
    output = message.outputs.add(name="X", datatype=datatype, shape=[len(values)])
    getattr(output.contents, field).extend(values)

    reply = parse_reply(message.SerializeToString())

    assert reply.outputs["X"] == RawTensor(datatype, (len(values),), data)


def test_contents_that_do_not_match_the_outputs_are_a_violation() -> None:
    message = service_pb2.ModelInferResponse(raw_output_contents=[b"", b""])
    message.outputs.add(name="X", datatype="FP32", shape=[0])

    with pytest.raises(ProtocolViolation, match="1 outputs"):
        parse_reply(message.SerializeToString())


def test_bytes_that_are_no_message_are_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="does not parse"):
        parse_stream_reply(b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolViolation, match="does not parse"):
        parse_reply(b"\x0a\xff")
