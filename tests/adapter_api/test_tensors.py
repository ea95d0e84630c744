"""Tensors in the v2 raw form: every datatype there and back, and wrong data refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import Datatype, InferRequest, InferResponse, InvalidRequest, Tensor
from adapter_api.tensors import ITEM_SIZE

NUMPY: dict[Datatype, type] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4)], ids=str)
@pytest.mark.parametrize("datatype", NUMPY)
def test_every_datatype_survives(datatype: Datatype, shape: tuple[int, ...]) -> None:
    array: np.ndarray[Any, Any] = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(NUMPY[datatype])

    tensor = Tensor.from_numpy("x", array)

    assert (tensor.datatype, tensor.shape) == (datatype, shape)
    assert np.array_equal(tensor.to_numpy(), array)


def test_data_is_little_endian_and_in_c_order_whatever_the_array_was() -> None:
    array = np.array([[1, 2], [3, 4]], dtype=">i4").T

    assert Tensor.from_numpy("x", array).data == b"".join(n.to_bytes(4, "little") for n in (1, 3, 2, 4))


@pytest.mark.spec("ORCH-3061-018")
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1.0039062, 3.4e38, -1e-40, float("inf"), float("-inf")])
def test_bf16_rounds_to_nearest_even(value: float) -> None:
    array = np.array([value], dtype=np.float32)

    tensor = Tensor.from_numpy("x", array, "BF16")

    assert tensor.data == array.astype(ml_dtypes.bfloat16).tobytes()
    assert tensor.to_numpy().dtype == np.float32


@given(st.floats(width=32, allow_nan=False))
def test_bf16_agrees_with_the_reference_everywhere(value: float) -> None:
    array = np.array([value], dtype=np.float32)

    with np.errstate(over="ignore"):
        assert Tensor.from_numpy("x", array, "BF16").data == array.astype(ml_dtypes.bfloat16).tobytes()


def test_a_nan_stays_a_nan_in_bf16() -> None:
    low_bits_only = np.array([0x7F800001], dtype=np.uint32).view(np.float32)

    assert np.isnan(Tensor.from_numpy("x", low_bits_only, "BF16").to_numpy()).all()


def test_an_ml_dtypes_array_is_bf16_as_it_stands() -> None:
    array = np.array([1.5, -2.0], dtype=ml_dtypes.bfloat16)

    tensor = Tensor.from_numpy("x", array)

    assert tensor.datatype == "BF16"
    assert tensor.to_numpy().tolist() == [1.5, -2.0]


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_bytes_elements_survive(elements: list[bytes]) -> None:
    tensor = Tensor.from_bytes_elements("x", elements)

    assert tensor.elements() == elements
    assert tensor.to_numpy().tolist() == elements


def test_text_arrays_become_utf8() -> None:
    tensor = Tensor.from_numpy("x", np.array([["é", "日本"]], dtype=object))

    assert tensor.shape == (1, 2)
    assert tensor.elements() == ["é".encode(), "日本".encode()]


@pytest.mark.parametrize("data", [b"\x01", b"\x05\0\0\0abc", b"\x01\0\0\0a\x02\0\0", b""], ids=repr)
def test_broken_bytes_framing_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="'x'"):
        Tensor("x", "BYTES", (1,), data).elements()


@pytest.mark.spec("ORCH-3061-017")
@pytest.mark.parametrize("datatype", ITEM_SIZE)
def test_data_that_does_not_fit_the_shape_is_refused(datatype: Datatype) -> None:
    with pytest.raises(InvalidRequest, match=datatype):
        Tensor("x", datatype, (2,), b"\0")


def test_a_negative_dimension_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="negative"):
        Tensor("x", "INT8", (-1,), b"")


@pytest.mark.parametrize(
    "array, datatype",
    [(np.array([1j]), None), (np.array([1], dtype=np.int32), "FP32"), (np.array(["2020"], dtype="M8[D]"), None)],
    ids=["complex", "other datatype", "date"],
)
def test_an_array_with_no_such_datatype_is_refused(array: np.ndarray[Any, Any], datatype: Datatype | None) -> None:
    with pytest.raises(InvalidRequest, match="cannot be"):
        Tensor.from_numpy("x", array, datatype)


def test_outputs_are_found_by_name() -> None:
    response = InferResponse(model="m", outputs=(Tensor("a", "INT8", (1,), b"\1"), Tensor("b", "INT8", (1,), b"\2")))

    assert response["b"].data == b"\2"
    with pytest.raises(KeyError, match=r"\['a', 'b'\]"):
        response["c"]


@pytest.mark.spec("ORCH-3061-019")
def test_a_repr_shows_no_contents() -> None:
    assert "secret" not in repr(Tensor.from_bytes_elements("x", [b"secret"]))


@pytest.mark.spec("ORCH-3061-019")
def test_nor_does_the_repr_of_a_request_but_it_says_what_there_is() -> None:
    inputs = (Tensor.from_bytes_elements("x", [b"secret"]),)

    shown = repr(InferRequest(model="m", inputs=inputs, parameters={"system_prompt": "secret"}, request_id="r1"))

    assert "secret" not in shown
    assert all(part in shown for part in ("'m'", "'x'", "BYTES", "system_prompt", "'r1'"))


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"traceparent": "\u00e9"}, "traceparent"),
        ({"traceparent": f"00-{'0' * 31}1-{'0' * 15}1-00\n"}, "traceparent"),
        ({"traceparent": f"cc-{'0' * 31}1-{'0' * 15}1-00-\u00e9"}, "traceparent"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        InferRequest(model="m", inputs=(), **fields)


def test_a_trace_context_of_a_later_version_may_go_on() -> None:
    later = f"cc-{'0' * 31}1-{'0' * 15}1-00-what-ever"

    assert InferRequest(model="m", inputs=(), traceparent=later).traceparent == later


@pytest.mark.spec("ORCH-3061-024")
@pytest.mark.parametrize("value", [5, 1.5, None, True, ["a"], {"a": 1}, 2**70, np.float32(1), np.int64(7), "\ud800"])
def test_an_object_that_is_no_text_is_refused_by_name(value: object) -> None:
    array = np.empty(2, dtype=object)
    array[:] = ["text", value]

    with pytest.raises(InvalidRequest, match="'X'"):
        Tensor.from_numpy("X", array)


@pytest.mark.spec("ORCH-3061-024")
def test_texts_and_bytes_of_every_kind_are_taken() -> None:
    array = np.array(["a", b"b", bytearray(b"c"), memoryview(b"d"), ""], dtype=object)

    assert Tensor.from_numpy("X", array).elements() == [b"a", b"b", b"c", b"d", b""]
