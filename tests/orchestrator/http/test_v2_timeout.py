"""The v2 parameter `timeout` is Triton's: how long a request may be queued, in microseconds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import InferRequest, Tensor
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_v2_config import in_front_of
from triton_adapter.testing import FakeTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3074-007")]

TENSOR = {"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}


def body(timeout: object) -> dict[str, Any]:
    return {"inputs": [TENSOR], "parameters": {"timeout": timeout}}


async def test_a_request_that_does_not_wait_runs_whatever_its_timeout_is(serve: Serve) -> None:
    async with serve({"slots": 1}) as host:
        answers = [
            await host.client.post("/v2/models/mock/infer", content=json.dumps(body(timeout)))
            for timeout in (1, 0, 10**15, 2**64 - 1)
        ]

    assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_request_that_waits_longer_is_told_as_triton_tells_it(serve: Serve) -> None:
    inference = InferRequest(model="mock", inputs=(Tensor("x", "INT8", (1,), b"\x01"),))
    async with serve({"slots": 1, "responses": 2}) as host:
        async with host.orchestrator.infer_stream(inference) as holding:
            await anext(holding)
            waited = await host.client.post("/v2/models/mock/infer", json=body(1000))
        after = await host.client.post("/v2/models/mock/infer", json=body(1))

    assert (waited.status_code, waited.json()["code"]) == (503, "overloaded")
    assert waited.json()["error"].startswith("Request timeout expired")
    assert "Retry-After" in waited.headers
    assert after.status_code == 200


@pytest.mark.parametrize("timeout", [-1, 1.5, "1", True, 2**64, [1]])
async def test_what_is_no_timeout_is_refused(serve: Serve, timeout: object) -> None:
    async with serve() as host:
        answer = await host.client.post("/v2/models/mock/infer", content=json.dumps(body(timeout)))

    assert answer.status_code == 400
    assert "'timeout'" in answer.json()["error"]


async def test_what_is_left_of_it_goes_to_the_engines_own_line() -> None:
    with FakeTriton() as fake:
        fake.model("m").config({
            "backend": "python",
            "max_batch_size": 4,
            "input": [{"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}],
            "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [1]}],
            "dynamic_batching": {"default_queue_policy": {"allow_timeout_override": True}},
        })  # fmt: skip
        async with in_front_of(fake.grpc_url) as host:
            text = {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]}
            sent = {"inputs": [text], "parameters": {"timeout": 3_000_000}}
            answer = await host.post("/v2/models/m/infer", json=sent)
        (request,) = fake.requests

    assert answer.status_code == 200
    timeout_us = request.parameters["timeout"]
    assert isinstance(timeout_us, int)
    assert 0 < timeout_us <= 3_000_000
