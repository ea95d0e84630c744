"""HTTP on the real server: what only this way has to show, beside the client that everybody has."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator

import numpy as np
import pytest

from adapter_api import Capability, InferRequest, TaskRequest, Tensor, Token, Unsupported
from adapter_api.testing import collect
from tests.triton_adapter.engine_side import wait_for_state
from tests.triton_adapter.ways import url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]


@pytest.fixture
async def over_http(triton: EmbeddedTriton) -> AsyncIterator[TritonAdapter]:
    async with TritonAdapter(TritonSettings(url=url_of(triton, "http"))) as adapter:
        yield adapter


@pytest.mark.spec("ORCH-3066-001")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: install it")
async def test_curl_and_the_adapter_hear_the_same(triton: EmbeddedTriton, over_http: TritonAdapter) -> None:
    body = {"inputs": [
        {"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "INPUT1", "datatype": "FP32", "shape": [1, 4], "data": [4, 3, 2, 1]},
    ]}  # fmt: skip

    ready = _curl("--write-out", "%{http_code}", f"{triton.http_url}/v2/health/ready")
    told = json.loads(_curl("--data", json.dumps(body), f"{triton.http_url}/v2/models/addsub/infer"))
    inputs = tuple(
        Tensor.from_numpy(each["name"], np.array([each["data"]], dtype=np.float32))  # type: ignore[arg-type]
        for each in body["inputs"]
    )
    response = await over_http.infer(InferRequest(model="addsub", inputs=inputs))

    assert (ready, (await over_http.health()).ready) == ("200", True)
    assert {each["name"]: each["data"] for each in told["outputs"]} == {
        tensor.name: tensor.to_numpy().ravel().tolist() for tensor in response.outputs
    }


def _curl(*arguments: str) -> str:
    command = ["curl", "--silent", "--show-error", "--max-time", "10", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=15).stdout


@pytest.mark.spec("ORCH-3066-004")
async def test_a_receipt_before_the_first_token_promises_less_than_one_after_it(over_http: TritonAdapter) -> None:
    slow = {"model": "slow", "prompt": "tick", "max_tokens": 100}
    silent = over_http.submit(TaskRequest.model_validate(slow | {"parameters": {"triton.delay_ms": 700}}))
    await anext(aiter(silent))
    await wait_for_state(over_http, silent.job_id, "running")
    early = await over_http.cancel(silent.job_id)
    talking = over_http.submit(TaskRequest.model_validate(slow | {"parameters": {"triton.delay_ms": 20}}))
    async for event in talking:
        if isinstance(event, Token):
            break
    late = await over_http.cancel(talking.job_id)

    assert (early.mode, early.acknowledged) == ("on_next_chunk", True)
    assert (late.mode, late.acknowledged) == ("hard", True)
    await wait_for_state(over_http, talking.job_id, "cancelled")
    await wait_for_state(over_http, silent.job_id, "cancelled")


@pytest.mark.spec("ORCH-3066-003")
async def test_a_stream_of_tensors_is_not_promised_and_is_refused(over_http: TritonAdapter) -> None:
    props = await over_http.props()
    request = InferRequest(model="splitter", inputs=(Tensor.from_bytes_elements("text_input", [b"abc"]),))

    assert Capability.TENSOR_STREAM not in props.capabilities.union(*(each.capabilities for each in props.models))
    with pytest.raises(Unsupported, match="gRPC"):
        async for _ in over_http.infer_stream(request):
            pass


@pytest.mark.spec("ORCH-3066-007")
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_compressed_messages_are_understood(triton: EmbeddedTriton, compression: str) -> None:
    values = np.arange(60_000, dtype=np.float32).reshape(1, -1)
    settings = TritonSettings.model_validate({"url": url_of(triton, "http"), "compression": compression})
    async with TritonAdapter(settings) as adapter:
        request = InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", values),))
        response = await adapter.infer(request)
        events = await collect(adapter.submit(TaskRequest(model="splitter", prompt="naïve")))

    assert np.array_equal(response["FP32_OUT"].to_numpy(), values)
    assert "".join(event.text for event in events if isinstance(event, Token)) == "naïve"


@pytest.mark.spec("ORCH-3066-005")
async def test_requests_of_one_answer_share_a_connection_that_is_kept(over_http: TritonAdapter) -> None:
    request = InferRequest(model="tensors", inputs=(Tensor("FP32_IN", "FP32", (1, 1), bytes(4)),))
    for _ in range(20):
        await over_http.infer(request)

    client = over_http._engine.transport._client  # type: ignore[attr-defined]
    assert len(client._connections._open) <= 3, "questions that go out together need more than one"
