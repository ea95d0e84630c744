"""Tensors as Dynamo hands them over, and as it takes them back."""

from __future__ import annotations

import math
import struct
from typing import Any, get_args

import pytest

from adapter_api import Datatype, InferResponse, InvalidRequest, Tensor
from dynamo_worker.values import answer_of, name_of, tensors_in
from tests.dynamo_worker.standing_in import as_dynamo_writes_them

SAMPLES: dict[str, tuple[str, list[Any], bytes]] = {
    "BOOL": ("Bool", [True, False], b"\1\0"),
    "UINT8": ("Uint8", [0, 255], b"\x00\xff"),
    "UINT16": ("Uint16", [1, 65535], struct.pack("<2H", 1, 65535)),
    "UINT32": ("Uint32", [1, 2**32 - 1], struct.pack("<2I", 1, 2**32 - 1)),
    "UINT64": ("Uint64", [1, 2**64 - 1], struct.pack("<2Q", 1, 2**64 - 1)),
    "INT8": ("Int8", [-128, 127], b"\x80\x7f"),
    "INT16": ("Int16", [-1, 2], struct.pack("<2h", -1, 2)),
    "INT32": ("Int32", [-1, 2], struct.pack("<2i", -1, 2)),
    "INT64": ("Int64", [-(2**63), 2**63 - 1], struct.pack("<2q", -(2**63), 2**63 - 1)),
    "FP16": ("Float16", [15360, 49152], b"\x00\x3c\x00\xc0"),
    "BF16": ("BFloat16", [16256, 49152], b"\x80\x3f\x00\xc0"),
    "FP32": ("Float32", [0.5, math.inf], struct.pack("<2f", 0.5, math.inf)),
    "FP64": ("Float64", [0.1, -2.0], struct.pack("<2d", 0.1, -2.0)),
    "BYTES": ("Bytes", [[255, 0], []], b"\2\0\0\0\xff\0\0\0\0\0"),
}


def given(kind: str, values: Any, shape: list[int]) -> dict[str, Any]:
    return {"metadata": {"name": "x", "data_type": kind, "shape": shape}, "data": {"data_type": kind, "values": values}}


def test_every_datatype_of_the_contract_has_a_sample() -> None:
    assert SAMPLES.keys() == set(get_args(Datatype))
    assert {name_of(datatype) for datatype in SAMPLES} == {kind for kind, _, _ in SAMPLES.values()}


@pytest.mark.spec("ORCH-3071-004")
@pytest.mark.parametrize("datatype", SAMPLES)
def test_values_come_in_as_raw_bytes_and_go_back_as_they_came(datatype: str) -> None:
    kind, values, raw = SAMPLES[datatype]

    (tensor,) = tensors_in([given(kind, values, [2])])
    answer = answer_of(InferResponse(model="m", outputs=(tensor,)), request_id="7", model="m", wanted=())

    assert (tensor.datatype, tensor.shape, bytes(tensor.data)) == (datatype, (2,), raw)
    (told,) = answer["tensors"] = as_dynamo_writes_them(answer["tensors"])
    assert answer == {"id": "7", "model": "m", "tensors": [given(kind, values, [2])]}
    assert [type(value) for value in told["data"]["values"]] == [type(value) for value in values]


@pytest.mark.spec("ORCH-3071-004")
@pytest.mark.parametrize("shape", [[0], [0, 4]])
@pytest.mark.parametrize("datatype", SAMPLES)
def test_tensors_of_no_elements_pass(datatype: str, shape: list[int]) -> None:
    empty = given(SAMPLES[datatype][0], [], shape)

    answer = answer_of(InferResponse(model="m", outputs=tensors_in([empty])), request_id=None, model="m", wanted=())

    assert as_dynamo_writes_them(answer["tensors"]) == [empty]


@pytest.mark.spec("ORCH-3071-005")
def test_only_the_outputs_that_were_asked_for_come_back_in_that_order() -> None:
    outputs = tuple(Tensor(name, "UINT8", (1,), b"\1") for name in ("a", "b", "c"))

    answer = answer_of(InferResponse(model="m", outputs=outputs), request_id=None, model="m", wanted=("c", "a"))

    assert [tensor["metadata"]["name"] for tensor in answer["tensors"]] == ["c", "a"]


@pytest.mark.spec("ORCH-3071-004")
@pytest.mark.parametrize(
    "tensors",
    [
        "no list", [{}], [None], [given("Complex", [1], [1])], [given("Int8", [300], [1])], [given("Int8", [1.5], [1])],
        [given("Int8", [1, 2], [1])], [given("Bytes", [[300]], [1])], [given("Float32", ["x"], [1])],
        [given("Uint8", 3, [3])], [given("Uint8", [256], [1])], [given("Bytes", [3], [1])],
        [given("Float32", b"1", [1])], [given("Bytes", [2**62], [1])],
        [given("Int8", [1], [1])] * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_tensor_is_refused_as_the_request_s_fault(tensors: Any) -> None:
    with pytest.raises(InvalidRequest):
        tensors_in(tensors)
