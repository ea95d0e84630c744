"""The models that exist to be tested with: slow, splitter, midfail, tensors, addsub."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as client
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from triton_adapter.embedded import DEMO_MODELS, EmbeddedTriton, demo_repository

from .engine import WAIT_S, connect, open_stream, probe, stream, tensor

pytestmark = pytest.mark.live


def test_every_demo_model_is_described_and_ready(triton: EmbeddedTriton) -> None:
    described = sorted(model.name for model in DEMO_MODELS)

    assert triton.models == described
    assert sorted(folder.name for folder in demo_repository().iterdir()) == described


@pytest.mark.parametrize("model", DEMO_MODELS, ids=lambda model: model.name)
def test_the_description_says_truly_whether_a_model_streams(triton: EmbeddedTriton, model: Any) -> None:
    with connect(triton) as connection:
        config = connection.get_model_config(model.name, client_timeout=WAIT_S).config

    assert config.model_transaction_policy.decoupled is model.decoupled


def test_slow_repeats_the_prompt_as_often_as_asked(triton: EmbeddedTriton) -> None:
    answer = stream(triton, "slow", [tensor("text_input", "a b")], {"max_tokens": 5, "delay_ms": 1})

    assert answer.text == "a b a b a "
    assert answer.final_with_data


def test_slow_proves_that_a_cancel_reached_the_engine(triton: EmbeddedTriton) -> None:
    before = probe(triton)
    parameters = {"max_tokens": 100_000, "delay_ms": 5}
    with open_stream(triton, "slow", [tensor("text_input", "a")], parameters, request_id="to-cancel") as messages:
        messages.get(timeout=WAIT_S)
        assert probe(triton, probe_id="to-cancel")["state"] == "running"

    after = _settled(triton, "to-cancel")
    assert after["state"] == "cancelled"
    assert after["cancelled"] == before["cancelled"] + 1


def test_slow_can_be_told_to_hang_until_it_is_cancelled(triton: EmbeddedTriton) -> None:
    parameters = {"max_tokens": 5, "delay_ms": 1, "hang_after": 2}
    with open_stream(triton, "slow", [tensor("text_input", "a")], parameters, request_id="hanging") as messages:
        received = [messages.get(timeout=WAIT_S) for _ in range(2)]
        assert len(received) == 2
        assert probe(triton, probe_id="hanging")["state"] == "running"

    assert _settled(triton, "hanging")["state"] == "cancelled"


def test_slow_can_be_told_to_ignore_a_cancel(triton: EmbeddedTriton) -> None:
    parameters = {"max_tokens": 20, "delay_ms": 2, "ignore_cancel": True}
    with open_stream(triton, "slow", [tensor("text_input", "a")], parameters, request_id="deaf") as messages:
        messages.get(timeout=WAIT_S)

    assert _settled(triton, "deaf")["state"] == "finished"


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 5])
def test_splitter_cuts_characters_and_loses_no_byte(triton: EmbeddedTriton, piece_bytes: int) -> None:
    prompt = "naïve 日本語 🦀👩‍👩‍👧 end"

    answer = stream(triton, "splitter", [tensor("text_input", prompt)], {"piece_bytes": piece_bytes})

    assert answer.text == prompt
    assert max(map(len, answer.texts)) == piece_bytes
    with pytest.raises(UnicodeDecodeError):
        _ = [text.decode() for text in answer.texts]


def test_splitter_answers_an_empty_prompt_with_the_final_flag_alone(triton: EmbeddedTriton) -> None:
    assert stream(triton, "splitter", [tensor("text_input", "")]).outputs == []


def test_midfail_streams_and_then_fails_as_told(triton: EmbeddedTriton) -> None:
    parameters = {"tokens": 2, "code": "UNAVAILABLE", "message": "out of luck"}

    answer = stream(triton, "midfail", [tensor("text_input", "x")], parameters)

    assert answer.text == "token0 token1 "
    assert answer.errors == ["out of luck"]


def test_midfail_answers_an_exception_too(triton: EmbeddedTriton) -> None:
    answer = stream(triton, "midfail", [tensor("text_input", "x")], {"raise": True, "message": "exploded"})

    assert answer.errors == ["exploded"]


def test_midfail_can_go_on_after_its_error(triton: EmbeddedTriton) -> None:
    parameters = {"tokens": 1, "final": False, "then_tokens": 2}
    with open_stream(triton, "midfail", [tensor("text_input", "x")], parameters) as messages:
        received = [messages.get(timeout=WAIT_S) for _ in range(5)]

    errors = [error is not None for _, error in received]
    assert errors == [False, True, False, False, False]
    assert received[-1][0].get_response().parameters["triton_final_response"].bool_param


SAMPLES: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-32768, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[-1.5, 65504]], np.float16),
    "FP32": np.array([[-1.5, np.pi]], np.float32),
    "FP64": np.array([[-1.5, np.pi]], np.float64),
    "BYTES": np.array([["né".encode(), b"\x00\xff", b""]], np.object_),
}


@pytest.mark.parametrize("datatype", SAMPLES)
def test_tensors_returns_every_datatype_untouched(triton: EmbeddedTriton, datatype: str) -> None:
    sent = SAMPLES[datatype]
    made = client.InferInput(f"{datatype}_IN", list(sent.shape), np_to_triton_dtype(sent.dtype))
    made.set_data_from_numpy(sent)

    with connect(triton) as connection:
        result = connection.infer("tensors", [made], client_timeout=WAIT_S)

    received = result.as_numpy(f"{datatype}_OUT")
    assert received.dtype == sent.dtype
    assert received.tolist() == sent.tolist()


def test_tensors_returns_bfloat16_untouched(triton: EmbeddedTriton) -> None:
    sent = np.array([[-1.5, 3.0, 0.0]], ml_dtypes.bfloat16)
    made = client.InferInput("BF16_IN", list(sent.shape), "BF16")
    made.set_data_from_numpy(sent)

    with connect(triton) as connection:
        result = connection.infer("tensors", [made], client_timeout=WAIT_S)

    assert result.get_output("BF16_OUT").datatype == "BF16"
    assert result.as_numpy("BF16_OUT").astype(np.float32).tolist() == sent.astype(np.float32).tolist()


def test_addsub_computes_whole_batches(triton: EmbeddedTriton) -> None:
    left, right = np.arange(8, dtype=np.float32).reshape(2, 4), np.full((2, 4), 2, np.float32)
    inputs = []
    for name, array in (("INPUT0", left), ("INPUT1", right)):
        inputs.append(client.InferInput(name, [2, 4], "FP32"))
        inputs[-1].set_data_from_numpy(array)

    with connect(triton) as connection:
        result = connection.infer("addsub", inputs, client_timeout=WAIT_S)

    assert result.as_numpy("SUM").tolist() == (left + right).tolist()
    assert result.as_numpy("DIFFERENCE").tolist() == (left - right).tolist()


def _settled(triton: EmbeddedTriton, request_id: str) -> dict[str, Any]:
    """Return the probe of a request once it no longer runs; each probe is a round trip to the model, hence bounded."""
    for _ in range(2000):
        report = probe(triton, probe_id=request_id)
        if report["state"] != "running":
            return report
    raise AssertionError(f"request {request_id} still runs: {report}")
