"""Tensors in the v2 protocol's REST form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapter_api import InferRequest, InferResponse, InvalidRequest, ProtocolViolation, Tensor
from orchestrator.http.kserve_codec import AnswerForm, decode_request, encode_response
from orchestrator.http.tensor_json import with_stand_ins

JSON_ONLY = AnswerForm(default=False, by_name={})
BINARY = AnswerForm(default=True, by_name={})

ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([0, 255], dtype="uint8"),
    "UINT16": np.array([0, 65535], dtype="uint16"),
    "UINT32": np.array([0, 2**32 - 1], dtype="uint32"),
    "UINT64": np.array([0, 2**64 - 1], dtype="uint64"),
    "INT8": np.array([-128, 127], dtype="int8"),
    "INT16": np.array([-(2**15), 2**15 - 1], dtype="int16"),
    "INT32": np.array([[-(2**31)], [2**31 - 1]], dtype="int32"),
    "INT64": np.array([-(2**63), 2**63 - 1], dtype="int64"),
    "FP16": np.array([1.5, -2.25], dtype="float16"),
    "FP32": np.array([1.1, -2.2], dtype="float32"),
    "FP64": np.array([1.1, -2.2], dtype="float64"),
}


def decode(head: Any, data: bytes = b"", **options: Any) -> tuple[InferRequest, AnswerForm]:
    encoded = head if isinstance(head, bytes) else json.dumps(head).encode()
    length = options.get("length", str(len(encoded)) if data else None)
    return decode_request(encoded + data, length, "m", None)


@pytest.mark.spec("ORCH-3064-013")
@pytest.mark.parametrize("datatype", ARRAYS)
def test_every_datatype_survives_json_and_binary(datatype: Any) -> None:
    tensor = Tensor.from_numpy("x", ARRAYS[datatype], datatype)
    response = InferResponse(model="m", outputs=(tensor,))

    for binary in (JSON_ONLY, BINARY):
        body, length = encode_response(response, binary)
        found = json.loads(body[:length])["outputs"][0]
        head = {"inputs": [found]}
        request, _ = decode(head, body[length:] if length else b"")
        assert request.inputs[0] == tensor


@pytest.mark.spec("ORCH-3064-013")
def test_bytes_and_bfloat16_survive() -> None:
    text = Tensor.from_bytes_elements("x", ["naïve".encode(), b""], (1, 2))
    bf16 = Tensor.from_numpy("y", np.array([1.5, -3.0], dtype="float32"), "BF16")
    body, length = encode_response(InferResponse(model="m", outputs=(text, bf16)), JSON_ONLY)

    assert length is None
    assert decode({"inputs": json.loads(body)["outputs"]})[0].inputs == (text, bf16)


def test_nested_data_is_taken_as_it_is_flat() -> None:
    nested = {"name": "x", "datatype": "INT8", "shape": [2, 2], "data": [[1, 2], [3, 4]]}

    assert decode({"inputs": [nested]})[0].inputs[0].data == b"\x01\x02\x03\x04"


def test_parameters_sequence_timeout_and_outputs_are_read() -> None:
    request, form = decode({
        "id": "r1",
        "inputs": [],
        "outputs": [
            {"name": "a", "parameters": {"binary_data": True}},
            {"name": "b", "parameters": {"classification": 3}},
        ],
        "parameters": {"sequence_id": 7, "sequence_start": True, "timeout": 2_000_000, "priority": 1, "mine": "x"},
    })  # fmt: skip

    assert form.id == "r1"
    assert request.request_id != "r1"
    assert request.sequence is not None
    assert (request.sequence.id, request.sequence.start, request.sequence.end) == (7, True, False)
    assert (request.queue_timeout_s, request.priority, dict(request.parameters)) == (2.0, 1, {"mine": "x"})
    assert [(o.name, o.classification) for o in request.outputs] == [("a", 0), ("b", 3)]
    assert form.is_binary("a")
    assert not form.is_binary("b")


@pytest.mark.spec("ORCH-3064-014")
@pytest.mark.parametrize(
    "head, data, said",
    [
        (b"{", b"", "not JSON"),
        (b"[]", b"", "not a JSON object"),
        (b"{}", b"", "list 'inputs'"),
        (b'{"inputs": "\xff"}', b"", "not UTF-8"),
        (b"[" * 100_000, b"", "not a JSON object"),
        (b'{"inputs": ' + b"[" * 100_000, b"", "nested too deeply"),
        (b'{"inputs": [], "parameters": {"mine": ' + b"[" * 65 + b"]" * 65 + b"}}", b"", "nested too deeply"),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [[1]]}]}, b"", "input 'x': the data does"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1e39]}]},
            b"",
            "input 'x': the data does",
        ),
        ({"inputs": [], "id": 5}, b"", "'id' must be a text"),
        ({"inputs": [], "parameters": {"binary_data_output": 1}}, b"", "'binary_data_output' must be"),
        ({"inputs": [], "parameters": {"timeout": "1"}}, b"", "'timeout' must be"),
        ({"inputs": [], "parameters": {"priority": 2**64}}, b"", "'priority' must be"),
        ({"inputs": [], "parameters": {"sequence_id": 1.5}}, b"", "'sequence_id' must be"),
        ({"inputs": [], "parameters": {"sequence_id": "x" * 257}}, b"", "'sequence_id' must be"),
        ({"inputs": [], "parameters": {"sequence_id": 1, "sequence_end": "no"}}, b"", "'sequence_end' must be"),
        ({"inputs": [], "parameters": {"mine": [1]}}, b"", "'mine' must be"),
        ({"inputs": [], "parameters": {"mine": 2**63}}, b"", "'mine' must be"),
        ({"inputs": [], "outputs": [{"name": "a", "parameters": {"classification": -1}}]}, b"", "'classification'"),
        ({"inputs": [{}]}, b"", "input 0 has no name"),
        ({"inputs": [{"name": "x", "datatype": "INT9", "shape": [1]}]}, b"", "'INT9' is no datatype"),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [-1]}]}, b"", "input 'x': shape"),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}]}, b"", "input 'x' has no data"),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [2], "data": [1]}]}, b"", "input 'x': the data does"),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [999]}]}, b"", "input 'x': the data does"),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": ["a"]}]}, b"", "input 'x': the data does"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [1]}]}, b"", "must be texts"),
        ({"inputs": []}, b"rest", "4 bytes of tensor data belong to no input"),
        (
            {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 9}}]},
            b"1",
            "input 'x': binary_data_size",
        ),
        ({"inputs": [], "outputs": [{}]}, b"", "each of 'outputs'"),
        ({"inputs": [], "parameters": 5}, b"", "parameters must be an object"),
    ],
)
def test_what_breaks_the_protocol_is_named(head: Any, data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        decode(head, data)


@pytest.mark.parametrize("length", ["x", "99999", "-1", "\xb2", "9" * 5000])
def test_a_header_length_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        decode({"inputs": []}, length=length)


@pytest.mark.spec("ORCH-3074-006")
@pytest.mark.parametrize(
    "tensor, data",
    [
        (Tensor.from_bytes_elements("x", [b"\xffa", b'"']), b'["\xffa","\\""]'),
        (Tensor.from_numpy("x", np.array([np.nan, 1.5], dtype="float32")), b"[NaN,1.5]"),
        (Tensor.from_numpy("x", np.array([np.inf, -np.inf], dtype="float16")), b"[Infinity,-Infinity]"),
    ],
)
def test_what_an_engine_answers_is_written_as_triton_writes_it(tensor: Tensor, data: bytes) -> None:
    body, _ = encode_response(InferResponse(model="m", outputs=(tensor,)), AnswerForm(False, {}))

    assert b'"data":' + data + b"}" in body


@pytest.mark.spec("ORCH-3074-006")
def test_an_answer_that_is_broken_is_the_engines_fault() -> None:
    broken = Tensor("x", "BYTES", (1,), b"\x09\0\0\0a")
    with pytest.raises(ProtocolViolation, match="output 'x' is broken"):
        encode_response(InferResponse(model="m", outputs=(broken,)), AnswerForm(False, {}))


@pytest.mark.spec("ORCH-3074-006")
@pytest.mark.parametrize("shift", range(12))
def test_a_word_is_a_number_wherever_it_stands(shift: int) -> None:
    before = 2**16 - 4 - len('{"a": ""} ') - shift
    head = b'{"a": "%b", "b": [%b-Infinity, "NaN"]}' % (b'\\"' * (before // 2), b" " * shift)
    found = with_stand_ins(head)

    assert found == head.replace(b"-Infinity", b"-1e99992")
    assert with_stand_ins(b"[1e99991, NaN]") is None
    assert with_stand_ins(b'["NaN", 1]') is None


@pytest.mark.spec("ORCH-3074-006")
def test_what_triton_writes_of_numbers_is_read_too() -> None:
    spec = b'{"name": "x\\"NaN", "datatype": "%b", "shape": [2, 2], "data": %b}'
    read, _ = decode_request(
        b'{"inputs": [%b]}' % (spec % (b"FP32", b"[[NaN, 1], [-Infinity, Infinity]]")), None, "m", None
    )

    assert read.inputs[0].name == 'x"NaN'
    np.testing.assert_array_equal(read.inputs[0].to_numpy(), np.array([[np.nan, 1], [-np.inf, np.inf]], "float32"))
    for datatype, data in (
        (b"INT32", b"[[NaN, 1], [2, 3]]"),
        (b"FP32", b"[NaN, 1e400, 2, 3]"),
        (b"FP32", b"[NaN, nan]"),
    ):
        with pytest.raises(InvalidRequest):
            decode_request(b'{"inputs": [%b]}' % (spec % (datatype, data)), None, "m", None)
