"""Tensors as people type them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapter_api import ConfigurationError, InvalidRequest, Tensor, TensorSpec
from worker_adapter.tensor_input import read_inputs

no_spec = "how tensors are typed is the program's affair"


def read(text: str, datatype: str | None = None, *shape: int) -> Tensor:
    """Return the one tensor that was typed; `datatype` and `shape` are what the model declares."""
    name = text.partition("=")[0].partition(":")[0]
    (tensor,) = read_inputs([text], {} if datatype is None else {name: TensorSpec(name, datatype, shape)})
    return tensor


@pytest.mark.parametrize(
    "text, datatype, values",
    [
        ("X=[1, 2]", "INT64", [1, 2]),
        ("X=[1, 2.5]", "FP32", [1.0, 2.5]),
        ("X=[true, false]", "BOOL", [True, False]),
        ("X=7", "INT64", 7),
        ("X=[[1], [2]]", "INT64", [[1], [2]]),
        ("X:FP16=[0.5]", "FP16", [0.5]),
        ("X:bf16=[1.5]", "BF16", [1.5]),
        ("X:UINT64=[1, 18446744073709551615]", "UINT64", [1, 2**64 - 1]),
        ("X:INT8=[-128, 127]", "INT8", [-128, 127]),
        ("X:BOOL=[0, 1]", "BOOL", [False, True]),
        ("X=hello, world", "BYTES", b"hello, world"),
        ('X=["a", "b"]', "BYTES", [b"a", b"b"]),
        ('X={"temperature": 0}', "BYTES", b'{"temperature": 0}'),
        ("X=@@you", "BYTES", b"@you"),
        ("X=a=b", "BYTES", b"a=b"),
        ("X:BYTES=12", "BYTES", b"12"),
    ],
)
def test_a_value_without_a_declaration_is_what_it_looks_like(text: str, datatype: str, values: Any) -> None:
    tensor = read(text)

    assert (tensor.name, tensor.datatype) == ("X", datatype)
    assert tensor.to_numpy().tolist() == values


@pytest.mark.parametrize(
    "text, datatype, shape, found",
    [
        ("X=[1,2,3,4]", "FP32", (-1, 4), (1, 4)),
        ("X=[[1,2],[3,4]]", "FP32", (-1, 2), (2, 2)),
        ("X=hello", "BYTES", (-1, 1), (1, 1)),
        ("X=12", "BYTES", (1,), (1,)),
        ("X=5", "INT32", (1,), (1,)),
        ("X=[]", "INT32", (-1,), (0,)),
    ],
)
def test_the_declaration_gives_datatype_and_leading_dimensions(
    text: str, datatype: str, shape: tuple[int, ...], found: tuple[int, ...]
) -> None:
    tensor = read(text, datatype, *shape)

    assert (tensor.datatype, tensor.shape) == (datatype, found)


@pytest.mark.parametrize(
    "text, datatype, shape, said",
    [
        ("X=[1,2,3]", "FP32", (-1, 4), r"takes FP32 \[any,4\], not the shape \[3\]"),
        ("X=[[1],[2,3]]", "FP32", (-1, -1), "different lengths"),
        ("X=1.5", "INT32", (1,), "fraction"),
        ("X=NaN", "INT32", (1,), "fraction or is not finite"),
        ("X=300", "UINT8", (1,), "outside the range of UINT8"),
        ("X=-1", "UINT64", (1,), "outside the range"),
        ("X=1e6", "FP16", (1,), "too large for FP16"),
        ("X=2", "BOOL", (1,), "outside the range of BOOL"),
        ("X=word", "FP32", (1,), "give a number"),
        ("X=null", "FP32", (1,), "give a number"),
        ("X", None, (), "NAME=VALUE"),
        ("=1", None, (), "NAME=VALUE"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    text: str, datatype: str | None, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read(text, datatype, *shape)


def test_infinity_is_a_float() -> None:
    assert math.isinf(read("X=[Infinity]", "FP32", 1).to_numpy()[0])


def test_unknown_missing_and_repeated_inputs_are_named() -> None:
    declared = {
        "A": TensorSpec("A", "INT32", (1,)),
        "B": TensorSpec("B", "FP32", (-1, 4)),
        "C": TensorSpec("C", "BYTES", (1,), optional=True),
    }

    with pytest.raises(InvalidRequest, match=r"no input 'Z'; it has A \(INT32 \[1\]\), B"):
        read_inputs(["Z=1"], declared)
    with pytest.raises(InvalidRequest, match=r"missing input: B \(FP32 \[any,4\]\);"):
        read_inputs(["A=1"], declared)
    with pytest.raises(InvalidRequest, match="'A' is given twice"):
        read_inputs(["A=1", "A=2"], declared)


def test_an_array_file_keeps_its_values(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)

    tensor = read(f"X=@{tmp_path / 'x.npy'}", "FP16", -1, 3)

    assert (tensor.datatype, tensor.shape) == ("FP16", (2, 3))
    assert tensor.to_numpy().tolist() == array.tolist()


def test_an_array_of_texts_becomes_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array(["né", "b"]))

    assert read(f"X=@{tmp_path / 'x.npy'}").elements() == ["né".encode(), b"b"]


def test_a_file_is_one_text_bytes_or_json_as_the_datatype_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"[1, 2]")

    assert read(f"X=@{path}", "BYTES", 1).elements() == [b"[1, 2]"]
    assert read(f"X=@{path}", "UINT8", -1).to_numpy().tolist() == list(b"[1, 2]")
    assert read(f"X=@{path}", "INT32", 2).to_numpy().tolist() == [1, 2]


def test_pickled_objects_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(InvalidRequest, match="pickled"):
        read(f"X=@{tmp_path / 'x.npy'}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.npy"):
        read(f"X=@{tmp_path / 'nothing.npy'}")
