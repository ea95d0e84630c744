"""Merging requests along the batch dimension, and splitting the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import InferRequest, InferResponse, ProtocolViolation, Sequence, Tensor
from triton_adapter.schema import ModelSchema
from triton_adapter.tensors.batching import group_by_batch, merge, split

BATCHED = ModelSchema("m", {}, {}, max_batch_size=4)
SINGLE = ModelSchema("m", {}, {}, max_batch_size=0)


def request(rows: int = 1, *, width: int = 2, **fields: object) -> InferRequest:
    tensor = Tensor("X", "UINT8", (rows, width), bytes(range(rows * width)))
    return InferRequest(model="m", inputs=(tensor,), **fields)  # type: ignore[arg-type]


def test_requests_fill_batches_up_to_the_limit() -> None:
    requests = [request(rows) for rows in (1, 2, 1, 3, 4, 1)]

    assert group_by_batch(requests, [BATCHED] * 6) == [[0, 1, 2], [3], [4], [5]]


def test_only_requests_that_are_alike_go_together() -> None:
    requests = [
        request(),
        request(width=3),
        request(parameters={"a": 1}),
        request(priority=1),
        request(sequence=Sequence(id=1)),
        request(),
    ]

    assert group_by_batch(requests, [BATCHED] * 6) == [[0, 5], [1], [2], [3], [4]]


def test_a_model_without_a_batch_dimension_gets_one_request_each() -> None:
    assert group_by_batch([request(), request()], [SINGLE] * 2) == [[0], [1]]


@given(st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=3), min_size=1, max_size=5))
def test_what_is_merged_can_be_split(texts: list[list[bytes]]) -> None:
    requests = [
        InferRequest(model="m", inputs=(Tensor.from_bytes_elements("T", rows, (len(rows), 1)),)) for rows in texts
    ]

    merged = merge(requests)
    parts = split(InferResponse(model="m", outputs=merged.inputs), requests)

    assert [part["T"].elements() for part in parts] == texts
    assert [part.request_id for part in parts] == [each.request_id for each in requests if len(requests) > 1] or [""]


def test_rows_without_elements_are_split_too() -> None:
    requests = [InferRequest(model="m", inputs=(Tensor("X", "FP32", (2, 0), b""),)) for _ in range(2)]

    parts = split(InferResponse(model="m", outputs=merge(requests).inputs), requests)

    assert [part["X"].shape for part in parts] == [(2, 0), (2, 0)]


def test_an_answer_of_another_number_of_rows_is_a_violation() -> None:
    answer = InferResponse(model="m", outputs=(Tensor("Y", "UINT8", (3,), bytes(3)),))

    with pytest.raises(ProtocolViolation, match="batch of 2 rows"):
        split(answer, [request(), request()])
