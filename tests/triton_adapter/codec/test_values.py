"""Values to bytes and back."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import InvalidRequest, ProtocolViolation
from triton_adapter.codec import (
    first_text,
    make_tensor,
    pack_texts,
    read_numbers,
    text_elements,
)
from triton_adapter.schema import RawTensor, TensorSpec

# -- BYTES


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_elements_survive_the_framing(elements: list[bytes]) -> None:
    assert text_elements(pack_texts(elements)) == elements


def test_a_length_is_four_bytes_little_endian() -> None:
    assert pack_texts([b"ab", b""]) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"


@pytest.mark.parametrize("raw", [b"\x05\x00\x00\x00ab", b"\x00\x00", b"\x01\x00\x00\x00ab\x00"])
def test_broken_framing_is_a_violation(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="cut off at byte"):
        first_text(raw)


@pytest.mark.parametrize("raw, text", [(b"", b""), (bytes(4), b""), (b"\x01\x00\x00\x00a", b"a")])
def test_the_only_element_is_the_text(raw: bytes, text: bytes) -> None:
    assert first_text(raw) == text


# -- numbers

INTEGERS = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64}


def made(datatype: str, *values: Any, dims: tuple[int, ...] = (-1,), batched: bool = False) -> RawTensor:
    tensor = make_tensor(TensorSpec("x", datatype, dims), values, batched=batched)
    assert (tensor.name, tensor.datatype) == ("x", datatype)
    return RawTensor(tensor.datatype, tensor.shape, bytes(tensor.data))


@pytest.mark.parametrize("datatype", INTEGERS)
def test_whole_numbers_reach_both_ends_of_their_datatype_and_not_beyond(datatype: str) -> None:
    bits = INTEGERS[datatype]
    low, high = (0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    assert read_numbers(made(datatype, low, high)) == (low, high)
    for outside in (low - 1, high + 1):
        with pytest.raises(InvalidRequest, match=f"input 'x' does not fit its datatype {datatype}"):
            made(datatype, outside)


@pytest.mark.parametrize(
    "datatype, value, read",
    [
        ("INT32", 3.0, 3),
        ("INT32", "3", 3),
        ("INT32", True, 1),
        ("FP32", 3, 3.0),
        ("FP32", "0.5", 0.5),
        ("FP16", 0.25, 0.25),
        ("FP64", 0.1, 0.1),
        ("BOOL", True, True),
        ("BOOL", 0, False),
        ("BOOL", "true", True),
    ],
)
def test_a_value_is_cast_when_nothing_is_lost(datatype: str, value: Any, read: Any) -> None:
    (found,) = read_numbers(made(datatype, value))

    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    "datatype, value",
    [
        ("INT32", 3.5),
        ("INT32", "three"),
        ("FP16", 1e6),
        ("FP32", 1e300),
        ("FP32", "nan"),
        ("BOOL", 2),
        ("BOOL", "perhaps"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_without_being_shown(datatype: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="does not fit") as caught:
        made(datatype, value)

    assert repr(value) not in caught.value.message


def test_bf16_is_the_upper_half_of_fp32() -> None:
    assert made("BF16", 1.5).data == struct.pack("<f", 1.5)[2:]


def test_a_datatype_that_no_task_can_fill_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="input 'x' has datatype OPAQUE"):
        made("OPAQUE", 1)


def test_half_a_character_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidRequest, match="'x' has half a character in it"):
        made("BYTES", "a\ud800")


def test_numbers_and_bytes_become_text_for_text_inputs() -> None:
    assert text_elements(made("BYTES", "é", b"\xff", 3).data) == ["é".encode(), b"\xff", b"3"]


@pytest.mark.parametrize(
    "dims, count, batched, shape",
    [
        ((1,), 1, False, (1,)),
        ((1,), 1, True, (1, 1)),
        ((-1,), 3, False, (3,)),
        ((-1,), 3, True, (1, 3)),
        ((-1, -1), 3, False, (1, 3)),
        ((1, 1), 1, False, (1, 1)),
        ((3,), 3, False, (3,)),
        ((), 1, True, (1,)),
        ((), 1, False, ()),
    ],
)
def test_a_shape_is_the_declared_one_with_room_for_the_values(
    dims: tuple[int, ...], count: int, batched: bool, shape: tuple[int, ...]
) -> None:
    assert made("INT32", *range(count), dims=dims, batched=batched).shape == shape


@pytest.mark.parametrize("dims, count", [((1,), 2), ((2,), 1), ((2, -1), 3), ((), 2)])
def test_values_that_are_too_many_or_too_few_are_refused_by_name(dims: tuple[int, ...], count: int) -> None:
    with pytest.raises(InvalidRequest, match=r"input 'x' of the model takes \d element"):
        made("INT32", *range(count), dims=dims)


def test_a_datatype_without_numbers_has_none() -> None:
    assert read_numbers(RawTensor("BYTES", (1,), pack_texts([b"a"]))) == ()
