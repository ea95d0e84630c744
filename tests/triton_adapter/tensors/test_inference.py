"""Tensors on the real server."""

from __future__ import annotations

import json

import anyio
import ml_dtypes
import numpy as np
import pytest

from adapter_api import (
    ContextLengthExceeded,
    Datatype,
    DeadlineExceeded,
    EngineFailed,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ModelNotFound,
    RequestedOutput,
    Tensor,
    Unsupported,
)
from tests.triton_adapter.engine_side import wait_for_state
from tests.triton_adapter.lab import loaded, step, tensor
from tests.triton_adapter.ways import live_over_grpc
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]

ARRAYS = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 255]], dtype=np.uint8),
    "UINT16": np.array([[0, 65535]], dtype=np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], dtype=np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], dtype=np.uint64),
    "INT8": np.array([[-128, 127]], dtype=np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], dtype=np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], dtype=np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], dtype=np.int64),
    "FP16": np.array([[1.5, -0.0, np.inf]], dtype=np.float16),
    "BF16": np.array([[1.5, -2.0, 3e38]], dtype=ml_dtypes.bfloat16),
    "FP32": np.array([[1.5, -np.inf]], dtype=np.float32),
    "FP64": np.array([[1e300, -0.0]], dtype=np.float64),
    "BYTES": np.array([[b"", "日本".encode(), b"\x00\xff"]], dtype=object),
}


def addsub(a: list[list[float]], b: list[list[float]], **fields: object) -> InferRequest:
    inputs = tuple(
        Tensor.from_numpy(name, np.array(rows, dtype=np.float32)) for name, rows in (("INPUT0", a), ("INPUT1", b))
    )
    return InferRequest(model="addsub", inputs=inputs, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("datatype", ARRAYS)
async def test_every_datatype_comes_back_bit_by_bit(adapter: TritonAdapter, datatype: Datatype) -> None:
    sent = Tensor.from_numpy(f"{datatype}_IN", ARRAYS[datatype])

    response = await adapter.infer(InferRequest(model="tensors", inputs=(sent,)))

    returned = response[f"{datatype}_OUT"]
    assert sent.datatype == datatype
    assert (returned.datatype, returned.shape, bytes(returned.data)) == (datatype, sent.shape, bytes(sent.data))
    assert response.model_version == "1"


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
async def test_tensors_of_no_elements_come_back(adapter: TritonAdapter, datatype: Datatype) -> None:
    sent = Tensor(f"{datatype}_IN", datatype, (1, 0), b"")

    response = await adapter.infer(InferRequest(model="tensors", inputs=(sent,)))

    assert response[f"{datatype}_OUT"].shape == (1, 0)


async def test_outputs_are_found_by_name_in_whatever_order_they_come(adapter: TritonAdapter) -> None:
    inputs = tuple(Tensor.from_numpy(f"{name}_IN", ARRAYS[name]) for name in ("FP32", "BYTES", "BOOL"))

    response = await adapter.infer(InferRequest(model="tensors", inputs=inputs))

    for name in ("BOOL", "FP32", "BYTES"):
        np.testing.assert_array_equal(response[f"{name}_OUT"].to_numpy(), ARRAYS[name])


async def test_only_requested_outputs_come(adapter: TritonAdapter) -> None:
    response = await adapter.infer(addsub([[1] * 4], [[2] * 4], outputs=(RequestedOutput("DIFFERENCE"),)))

    assert [output.name for output in response.outputs] == ["DIFFERENCE"]
    assert response["DIFFERENCE"].to_numpy().tolist() == [[-1] * 4]


@pytest.mark.parametrize(
    "request_, complaint",
    [
        (InferRequest(model="tensors", inputs=(Tensor("ZZZ", "FP32", (1, 1), bytes(4)),)), "ZZZ"),
        (InferRequest(model="tensors", inputs=(Tensor("FP32_IN", "INT32", (1, 1), bytes(4)),)), "INT32"),
        (InferRequest(model="tensors", inputs=(Tensor("FP32_IN", "FP32", (1,), bytes(4)),)), "shape"),
        (InferRequest(model="tensors", inputs=(Tensor("FP32_IN", "FP32", (9, 1), bytes(36)),)), "batch"),
        (addsub([[1] * 4], [[1] * 4], outputs=(RequestedOutput("NOPE"),)), "NOPE"),
        (addsub([[1] * 4], [[1] * 4], parameters={"triton_grpc_error": True}), "reserved"),
        (InferRequest(model="addsub", inputs=(Tensor("INPUT0", "FP32", (1, 4), bytes(16)),)), "INPUT1"),
    ],
)
async def test_what_the_model_cannot_take_is_refused_by_name(
    adapter: TritonAdapter, request_: InferRequest, complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        await adapter.infer(request_)

    assert not isinstance(caught.value, ContextLengthExceeded)
    assert not caught.value.retryable


async def test_an_unknown_model_is_not_found(adapter: TritonAdapter) -> None:
    with pytest.raises(ModelNotFound, match="nope"):
        await adapter.infer(InferRequest(model="nope", inputs=()))


@live_over_grpc  # over HTTP there are no streams of tensors
async def test_a_model_that_streams_is_refused_by_infer_and_served_by_infer_stream(adapter: TritonAdapter) -> None:
    request = InferRequest(
        model="slow",
        inputs=(Tensor.from_bytes_elements("text_input", [b"a b"]),),
        parameters={"max_tokens": 3, "delay_ms": 1},
    )

    with pytest.raises(Unsupported, match="ask for a stream"):
        await adapter.infer(request)
    responses = [response async for response in adapter.infer_stream(request)]

    assert [response["text_output"].elements() for response in responses] == [[b"a "], [b"b "], [b"a "]]
    assert [response.final for response in responses] == [False, False, True]


async def test_a_model_of_one_answer_streams_one(adapter: TritonAdapter) -> None:
    responses = [response async for response in adapter.infer_stream(addsub([[1] * 4], [[1] * 4]))]

    assert len(responses) == 1
    assert responses[0].final
    assert responses[0]["SUM"].to_numpy().tolist() == [[2] * 4]


@live_over_grpc  # over HTTP there are no streams of tensors
async def test_leaving_a_stream_of_tensors_cancels_it(adapter: TritonAdapter) -> None:
    request = InferRequest(
        model="slow", request_id="left-tensors", inputs=(Tensor.from_bytes_elements("text_input", [b"x"]),)
    )

    async with adapter.infer_stream(request) as stream:
        async for _ in stream:
            break

    await wait_for_state(adapter, "left-tensors", "cancelled")


@live_over_grpc  # over HTTP there are no streams of tensors
async def test_an_error_in_a_stream_of_tensors_is_raised_after_what_came_before(adapter: TritonAdapter) -> None:
    request = InferRequest(model="midfail", inputs=(Tensor.from_bytes_elements("text_input", [b"x"]),))
    seen: list[InferResponse] = []

    async def read() -> None:
        async for response in adapter.infer_stream(request):
            seen.append(response)

    with pytest.raises(EngineFailed, match="asked to fail"):
        await read()
    assert len(seen) == 3


async def test_a_silent_stream_of_tensors_ends_with_its_stage(triton: EmbeddedTriton) -> None:
    async with TritonAdapter(TritonSettings(url=triton.grpc_url, inter_token_timeout_s=0.3)) as adapter:
        request = InferRequest(
            model="slow",
            request_id="silent-tensors",
            inputs=(Tensor.from_bytes_elements("text_input", [b"x"]),),
            parameters={"hang_after": 1, "delay_ms": 1},
        )

        with pytest.raises(DeadlineExceeded) as caught:
            _ = [response async for response in adapter.infer_stream(request)]

        assert caught.value.stage == "inter_token"
        await wait_for_state(adapter, "silent-tensors", "cancelled")


async def test_a_batch_is_merged_up_to_the_models_limit_and_split_again(adapter: TritonAdapter) -> None:
    requests = [addsub([[i] * 4], [[1] * 4]) for i in range(20)]

    before = (await adapter.models.statistics("addsub"))[0]
    answers = await adapter.infer_batch(requests)
    after = (await adapter.models.statistics("addsub"))[0]

    assert [_rows(answer, "SUM") for answer in answers] == [[[i + 1] * 4] for i in range(20)]
    assert after.inference_count - before.inference_count == 20
    assert after.success.count - before.success.count == 3, "20 rows are three requests of at most 8"


async def test_texts_of_different_lengths_are_batched_and_told_apart(adapter: TritonAdapter) -> None:
    texts = [b"", b"one", "zwölf".encode(), b"a longer one"]
    requests = [
        InferRequest(model="tensors", inputs=(Tensor.from_bytes_elements("BYTES_IN", [text], (1, 1)),))
        for text in texts
    ]

    answers = await adapter.infer_batch(requests)

    assert [_elements(answer) for answer in answers] == [[text] for text in texts]


async def test_one_bad_item_of_a_batch_fails_alone(adapter: TritonAdapter) -> None:
    good = InferRequest(model="tensors", inputs=(Tensor("FP32_IN", "FP32", (1, 1), bytes(4)),))
    bad = InferRequest(model="tensors", inputs=(Tensor("NOPE", "FP32", (1, 1), bytes(4)),))

    first, second, third = await adapter.infer_batch([good, bad, good])

    assert isinstance(first, InferResponse)
    assert isinstance(second, InvalidRequest)
    assert isinstance(third, InferResponse)


async def test_classification_returns_the_best_labels(adapter: TritonAdapter) -> None:
    request = addsub([[1, 9, 3, 2]], [[0] * 4], outputs=(RequestedOutput("SUM", classification=2),))

    response = await adapter.infer(request)

    assert [element.partition(b":")[2] for element in response["SUM"].elements()] == [b"1", b"2"]


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_compressed_messages_are_understood(triton: EmbeddedTriton, compression: str) -> None:
    settings = TritonSettings.model_validate({"url": triton.grpc_url, "compression": compression})
    array = np.arange(8000, dtype=np.float32).reshape(1, -1)

    async with TritonAdapter(settings) as adapter:
        response = await adapter.infer(InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", array),)))

    np.testing.assert_array_equal(response["FP32_OUT"].to_numpy(), array)


async def test_large_tensors_pass_the_usual_limit_of_four_mebibytes(adapter: TritonAdapter) -> None:
    array = np.arange(3_000_000, dtype=np.float32).reshape(1, -1)

    response = await adapter.infer(InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", array),)))

    np.testing.assert_array_equal(response["FP32_OUT"].to_numpy(), array)


async def test_request_parameters_priority_and_timeout_reach_the_model(adapter: TritonAdapter) -> None:
    code = """
    def execute(self, requests):
        return [answer(SEEN=text(request.parameters())) for request in requests]
    """
    async with loaded(
        adapter,
        "parameters",
        inputs=[tensor("X", "TYPE_FP32", 1)],
        outputs=[tensor("SEEN", "TYPE_STRING", 1)],
        code=code,
    ):
        request = InferRequest(
            model="parameters",
            inputs=(Tensor("X", "FP32", (1,), bytes(4)),),
            parameters={"flag": True, "count": 3, "ratio": 0.5, "name": "x"},
            priority=1,
        )

        response = await adapter.infer(request)

    assert json.loads(response["SEEN"].elements()[0]) == {"flag": True, "count": 3, "ratio": 0.5, "name": "x"}


async def test_an_ensemble_runs_its_members(adapter: TritonAdapter) -> None:
    x, y = tensor("X", "TYPE_FP32", 4), tensor("Y", "TYPE_FP32", 4)
    steps = [
        step("addsub", {"INPUT0": "X", "INPUT1": "X"}, {"SUM": "TWICE"}),
        step("addsub", {"INPUT0": "TWICE", "INPUT1": "TWICE"}, {"SUM": "Y"}),
    ]
    async with loaded(
        adapter,
        "fourfold",
        inputs=[x],
        outputs=[y],
        max_batch_size=8,
        platform="ensemble",
        ensemble_scheduling={"step": steps},
    ) as schema:
        sent = Tensor.from_numpy("X", np.array([[1, 2, 3, 4]], dtype=np.float32))

        response = await adapter.infer(InferRequest(model="fourfold", inputs=(sent,)))

    assert schema.scheduling == "ensemble"
    assert schema.ensemble_steps == ("addsub", "addsub")
    assert response["Y"].to_numpy().tolist() == [[4, 8, 12, 16]]


@live_over_grpc  # over HTTP the engine is not told, and this model waits for that
async def test_a_cancelled_scope_leaves_a_request_of_one_answer(adapter: TritonAdapter) -> None:
    code = """
    def execute(self, requests):
        import time
        while not any(request.is_cancelled() for request in requests):
            time.sleep(0.005)
        return [answer(Y=value(request, "X")) for request in requests]
    """
    x, y = tensor("X", "TYPE_FP32", 1), tensor("Y", "TYPE_FP32", 1)
    async with loaded(adapter, "waits", inputs=[x], outputs=[y], code=code):
        request = InferRequest(model="waits", inputs=(Tensor("X", "FP32", (1,), bytes(4)),))
        with anyio.move_on_after(0.2) as scope:
            await adapter.infer(request)
        with pytest.raises(DeadlineExceeded) as caught:
            await adapter.infer(InferRequest(model="waits", inputs=request.inputs, timeout_s=0.2))

        assert scope.cancelled_caught
        assert caught.value.stage == "total"
    # Unloading waits for what runs: that it came to an end shows that both cancels reached the model.


def _rows(answer: object, name: str) -> object:
    assert isinstance(answer, InferResponse)
    return answer[name].to_numpy().tolist()


def _elements(answer: object) -> list[bytes]:
    assert isinstance(answer, InferResponse)
    return answer["BYTES_OUT"].elements()


@pytest.mark.live
@pytest.mark.parametrize("classification", [0, 1])
async def test_an_ensemble_that_shows_an_inner_tensor_can_be_asked_for_one_output(
    adapter: TritonAdapter, classification: int
) -> None:
    # Triton 2.51 fails such a request: it waits for an output that nobody asked for.
    steps = [
        step("addsub", {"INPUT0": "X", "INPUT1": "X"}, {"SUM": "TWICE"}),
        step("addsub", {"INPUT0": "TWICE", "INPUT1": "TWICE"}, {"SUM": "Y"}),
    ]
    outputs = [tensor("TWICE", "TYPE_FP32", 4), tensor("Y", "TYPE_FP32", 4)]
    x = Tensor.from_numpy("X", np.array([[1, 2, 3, 4]], dtype=np.float32))
    async with loaded(
        adapter,
        "showing",
        inputs=[tensor("X", "TYPE_FP32", 4)],
        outputs=outputs,
        max_batch_size=8,
        platform="ensemble",
        ensemble_scheduling={"step": steps},
    ):
        for name in ("Y", "TWICE"):
            asked = InferRequest(model="showing", inputs=(x,), outputs=(RequestedOutput(name, classification),))
            response = await adapter.infer(asked)
            assert [output.name for output in response.outputs] == [name]
