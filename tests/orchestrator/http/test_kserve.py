"""The v2 inference protocol over REST, with Triton's own HTTP client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import numpy as np
import pytest

from tests.orchestrator.http.conftest import Host, Serve

pytestmark = pytest.mark.anyio


async def with_client(host: Host, work: Callable[[Any], Any]) -> Any:
    """Run `work` with Triton's client, which blocks, in a thread."""
    import tritonclient.http as tritonhttp  # here, because it brings gevent

    def run() -> Any:
        client = tritonhttp.InferenceServerClient(host.url.removeprefix("http://"))
        try:
            return work(client)
        finally:
            client.close()

    return await anyio.to_thread.run_sync(run)


@pytest.mark.spec("ORCH-3064-013")
@pytest.mark.parametrize("binary", [True, False])
async def test_tritons_client_gets_its_tensors_back(serve: Serve, binary: bool) -> None:
    import tritonclient.http as tritonhttp

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    text = np.array([b"one", "zwei 🙂".encode()], dtype=np.object_)

    def work(client: Any) -> Any:
        inputs = [tritonhttp.InferInput("x", [2, 3], "FP32"), tritonhttp.InferInput("t", [2], "BYTES")]
        inputs[0].set_data_from_numpy(array, binary_data=binary)
        inputs[1].set_data_from_numpy(text, binary_data=binary)
        outputs = [tritonhttp.InferRequestedOutput(name, binary_data=binary) for name in ("x", "t")]
        return client.infer("mock", inputs, outputs=outputs, request_id="r1")

    async with serve() as host:
        result = await with_client(host, work)

    np.testing.assert_array_equal(result.as_numpy("x"), array)
    assert [each if isinstance(each, bytes) else each.encode() for each in result.as_numpy("t")] == list(text)
    assert result.get_response()["id"] == "r1"


async def test_tritons_client_sees_server_and_models(serve: Serve) -> None:
    def work(client: Any) -> Any:
        return (
            client.is_server_live(), client.is_server_ready(), client.is_model_ready("mock"),
            client.is_model_ready("nope"), client.get_server_metadata(), client.get_model_metadata("mock"),
            client.get_model_repository_index(),
        )  # fmt: skip

    async with serve() as host:
        live, ready, model, unknown, server, metadata, index = await with_client(host, work)

    assert (live, ready, model, unknown) == (True, True, True, False)
    assert server["name"] == "worker-adapter"
    assert (metadata["name"], metadata["versions"]) == ("mock", ["1"])
    assert index == [{"name": "mock", "version": "1", "state": "READY", "reason": ""}]


async def test_tritons_client_understands_our_errors(serve: Serve) -> None:
    import tritonclient.http as tritonhttp
    from tritonclient.utils import InferenceServerException

    def work(client: Any) -> Any:

        with pytest.raises(InferenceServerException) as refused:
            client.infer("nope", [tritonhttp.InferInput("x", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))])
        return refused.value.message()

    async with serve() as host:
        message = await with_client(host, work)

    assert "no replica has a model 'nope'" in message


@pytest.mark.parametrize(
    "path, status",
    [
        ("/v2/models/mock", 200),
        ("/v2/models/mock/versions/1", 200),
        ("/v2/models/mock/versions/9", 404),
        ("/v2/models/nope", 404),
        ("/v2/models/mock/versions/1/ready", 200),
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
    ],
)
async def test_metadata_and_health_have_their_statuses(serve: Serve, path: str, status: int) -> None:
    async with serve() as host:
        response = await host.client.get(path)

    assert response.status_code == status
    if status == 404:
        assert isinstance(response.json()["error"], str)
        assert response.json()["code"] == "model_not_found"


async def test_the_same_id_may_come_again(serve: Serve) -> None:
    body = {"id": "1", "inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1]}]}
    async with serve() as host:
        answers = [await host.client.post("/v2/models/mock/infer", json=body) for _ in range(2)]
        jobs = [host.orchestrator.task(answer.headers["x-job-id"]) for answer in answers]

    assert [(answer.status_code, answer.json()["id"]) for answer in answers] == [(200, "1"), (200, "1")]
    assert [job.model for job in jobs if job is not None] == ["mock", "mock"]


@pytest.mark.parametrize("call", ["get_trace_settings", "get_log_settings"])
async def test_tritons_client_understands_that_something_is_not_here(serve: Serve, call: str) -> None:
    async with serve() as host:
        from tritonclient.utils import InferenceServerException

        with pytest.raises(InferenceServerException) as refused:
            await with_client(host, lambda client: getattr(client, call)())

    assert str(refused.value).startswith("[501]")


@pytest.mark.spec("ORCH-3064-014")
async def test_a_broken_inference_is_told_in_the_protocols_dialect(serve: Serve) -> None:
    async with serve() as host:
        body = {"inputs": [{"name": "x", "datatype": "INT9", "shape": [1], "data": [1]}]}
        response = await host.client.post("/v2/models/mock/infer", json=body)

    assert response.status_code == 400
    assert response.json() == {
        "error": "input 'x': 'INT9' is no datatype of the v2 protocol",
        "code": "invalid_request",
    }


async def test_a_replica_that_is_away_makes_ready_503(serve: Serve) -> None:
    async with serve({"state": "unreachable"}) as host:
        statuses = [
            (await host.client.get(path)).status_code for path in ("/v2/health/ready", "/readyz", "/v2/health/live")
        ]

    assert statuses == [503, 503, 200]


async def test_json_numbers_come_back_as_json(serve: Serve) -> None:
    async with serve() as host:
        body = {"id": "a", "inputs": [{"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2]}]}
        response = await host.client.post("/v2/models/mock/versions/1/infer", content=json.dumps(body))

    assert response.json() == {
        "model_name": "mock", "model_version": "1", "id": "a",
        "outputs": [{"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2]}],
    }  # fmt: skip
