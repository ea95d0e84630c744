"""`infer`: tensors in, tensors out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapter_api import InferResponse, Tensor
from tests.worker_adapter.program import Finished, run
from triton_adapter.embedded import EmbeddedTriton
from worker_adapter.tensor_output import document, save

no_spec = "how the program shows tensors is its own affair; what the inference does is ORCH-3061"


def infer(*arguments: str) -> Finished:
    return run("infer", "--adapter", "mock", "--model", "mock", *arguments)


def test_outputs_are_shown_with_their_first_values() -> None:
    result = infer("--input", "X=[[1, 2, 3]]", "--input", "TEXT=hello")

    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()] == [
        ["OUTPUT", "DATATYPE", "SHAPE", "VALUES"],
        ["X", "INT64", "[1,", "3]", "1,", "2,", "3"],
        ["TEXT", "BYTES", "[]", "'hello'"],
    ]


def test_json_has_all_values() -> None:
    result = infer("--input", "X=" + str(list(range(50))), "--output", "X", "--json")

    (output,) = result.document["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("X", "INT64", [50])
    assert output["data"] == list(range(50))


def test_a_stream_is_one_document_per_response() -> None:
    result = infer("--input", "X=1", "--stream", "--json")

    assert result.document["outputs"][0]["data"] == [1]


def test_outputs_are_saved_as_arrays(tmp_path: Path) -> None:
    result = infer("--input", "X:FP16=[0.5, 1]", "--save", str(tmp_path / "new"))

    assert result.code == 0
    assert np.load(tmp_path / "new" / "X.npy").tolist() == [0.5, 1.0]


def test_an_output_cannot_name_a_file_outside_the_folder(tmp_path: Path) -> None:
    evil = Tensor.from_numpy("../../evil", np.array([1]))
    response = InferResponse(model="m", outputs=(evil, Tensor.from_numpy("..", np.array([2]))))

    paths = list(save(response, tmp_path))

    assert [path.parent for path in paths] == [tmp_path, tmp_path]
    assert len({path.name for path in paths}) == 2
    assert all(path.exists() for path in paths)


def test_texts_that_an_array_would_shorten_are_saved_as_they_came(tmp_path: Path) -> None:
    tensor = Tensor.from_bytes_elements("X", [b"a\0"])

    (path,) = save(InferResponse(model="m", outputs=(tensor,)), tmp_path)

    assert (path.name, path.read_bytes()) == ("X.bin", bytes(tensor.data))


def test_bytes_that_are_no_text_are_base64_in_json() -> None:
    response = InferResponse(model="m", outputs=(Tensor.from_bytes_elements("X", [b"\xff", b"a"]),))

    assert document(response)["outputs"][0]["data"] == [{"b64": "/w=="}, "a"]


@pytest.mark.parametrize(
    "arguments, code",
    [
        (("--input", "X"), "invalid_request"),
        (("--input", "X=1", "--sequence-start"), "invalid_request"),
        (("--input", "X=1", "--classification", "2"), "invalid_request"),
        (("--input", "X=@/nowhere.npy"), "invalid_configuration"),
        (("--input", "X=1", "--parameter", "x"), "invalid_request"),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error(arguments: tuple[str, ...], code: str) -> None:
    result = infer(*arguments, "--json")

    assert (result.code, result.error.code) == (2, code)


def test_an_error_of_the_engine_exits_1() -> None:
    result = run("infer", "--adapter", "mock", "--model", "nope", "--input", "X=1", "--json")

    assert (result.code, result.error.code) == (1, "model_not_found")


def test_an_engine_that_cannot_be_reached_exits_3(closed_url: str) -> None:
    assert run("infer", "--url", closed_url, "--model", "m", "--input", "X=1").code == 3


@pytest.mark.live
def test_a_real_model_adds_what_was_typed(triton: EmbeddedTriton) -> None:
    inputs = ("--input", "INPUT0=[1, 2, 3, 4]", "--input", "INPUT1=[[1, 1, 1, 1]]")

    result = run("infer", "--url", triton.grpc_url, "--model", "addsub", *inputs, "--json")

    outputs = {output["name"]: output for output in result.document["outputs"]}
    assert outputs["SUM"]["data"] == [2, 3, 4, 5]
    assert outputs["SUM"]["shape"] == [1, 4]
    assert outputs["DIFFERENCE"]["data"] == [0, 1, 2, 3]


@pytest.mark.live
def test_a_real_model_gets_every_datatype(triton: EmbeddedTriton) -> None:
    typed = {
        "BOOL_IN": "[true]",
        "BF16_IN": "1.5",
        "FP16_IN": "[0.5, 2]",
        "BYTES_IN": "naïve",
        "UINT64_IN": str(2**64 - 1),
    }
    inputs = [part for name, value in typed.items() for part in ("--input", f"{name}={value}")]

    result = run("infer", "--url", triton.grpc_url, "--model", "tensors", *inputs, "--json")

    data = {output["name"]: output["data"] for output in result.document["outputs"]}
    assert data == {
        "BOOL_OUT": [True],
        "BF16_OUT": [1.5],
        "FP16_OUT": [0.5, 2],
        "BYTES_OUT": ["naïve"],
        "UINT64_OUT": [2**64 - 1],
    }


@pytest.mark.live
def test_a_missing_input_of_a_real_model_is_refused_by_name(triton: EmbeddedTriton) -> None:
    result = run("infer", "--url", triton.grpc_url, "--model", "addsub", "--input", "INPUT0=[1,2,3,4]", "--json")

    assert result.code == 2
    assert "INPUT1" in result.error.message


@pytest.mark.live
def test_a_model_that_streams_is_told_to_need_the_option_and_streams_with_it(triton: EmbeddedTriton) -> None:
    asked = ("infer", "--url", triton.grpc_url, "--model", "splitter", "--input", "text_input=ab")

    refused, streamed = run(*asked), run(*asked, "--stream")

    assert (refused.code, streamed.code) == (1, 0)
    assert "--stream" in refused.err
    assert streamed.out.count("text_output") == 2
