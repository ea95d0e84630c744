"""The engines' metrics under our labels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from prometheus_client import generate_latest

from orchestrator import Orchestrator
from orchestrator.engine_metrics import MAX_SAMPLES, EngineMetrics, relabelled
from orchestrator.metrics import LABELS
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.pooling import mock_host, settings

pytestmark = pytest.mark.anyio

ON_R0 = {"engine": "mock", "engine_version": "1.0", "pool_id": "default", "replica_id": "r0"}
TRITONS = """
# HELP nv_inference_request_success Number of successful inference requests
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="mock",version="1"} 3
nv_inference_request_success{model="mock",version="2"} 4
# TYPE nv_inference_request_summary_us summary
nv_inference_request_summary_us{model="mock",version="1",quantile="0.5"} 10
nv_inference_request_summary_us{model="mock",version="2",quantile="0.5"} 30
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{model="mock",version="1",kv_cache_block_type="used"} 7
nv_trt_llm_kv_cache_block_metrics{model="mock",version="1",kv_cache_block_type="free"} 9
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
"""


def series(text: str, **models: Any) -> dict[tuple[str, str], float]:
    found = {}
    for family in relabelled(text, ON_R0, ["mock"]):
        for sample in family.samples:
            assert ON_R0.items() <= sample.labels.items()
            own = {name: value for name, value in sample.labels.items() if name not in ON_R0}
            found[sample.name, ",".join(f"{name}={value}" for name, value in sorted(own.items()))] = sample.value
    return found


@pytest.mark.spec("ORCH-3062-001")
def test_series_get_our_labels_and_lose_those_that_nobody_bounds() -> None:
    assert series(TRITONS) == {
        ("nv_inference_request_success", "model_id=mock"): 7,
        ("nv_inference_request_summary_us", "model_id=mock,quantile=0.5"): 30,
        ("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type=used,model_id=mock"): 7,
        ("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type=free,model_id=mock"): 9,
        ("nv_gpu_utilization", "gpu_uuid=GPU-1"): 0.5,
    }


def test_a_model_that_no_replica_has_is_no_label() -> None:
    assert series('some_total{model="made-up"} 1\n') == {("some_total", "model_id="): 1}


def test_an_engine_with_too_many_series_is_cut_short() -> None:
    text = "".join(f'few{{gpu_uuid="{number}"}} 1\n' for number in range(3))
    text += "# TYPE many gauge\n" + "".join(f'many{{gpu_uuid="{number}"}} 1\n' for number in range(MAX_SAMPLES))

    assert {name for name, _ in series(text)} == {"few"}


class Engine:
    """Serves metrics, and counts who asks."""

    def __init__(self, body: bytes, url: str) -> None:
        self.body = body
        self.url = url
        self.asked = 0


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    found = Engine(TRITONS.encode(), f"http://127.0.0.1:{port}/metrics")

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            found.asked += 1
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + found.body)

    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield found
        group.cancel_scope.cancel()
    await listener.aclose()


def host_with(url: str) -> Orchestrator:
    replica = {"id": "r0", "adapter": "mock", "metrics_url": url}
    return Orchestrator(settings().model_copy(update=_pools(replica)), plugins=mock_host())


def _pools(*replicas: dict[str, Any]) -> dict[str, Any]:
    return {"pools": type(settings()).parse({"pools": [{"replicas": list(replicas)}]}).pools}


async def test_they_are_fetched_when_ours_are_read(engine: Engine) -> None:
    async with host_with(engine.url) as host, EngineMetrics() as engine_metrics:
        host.metrics.add_collectors([engine_metrics])
        await engine_metrics.fetch(host.watched_pools)
        text = generate_latest(host.collect_metrics()).decode()

    assert 'nv_inference_request_success{engine="mock",engine_version="1.0",model_id="mock"' in text
    assert "worker_adapter_engine_metrics_up{" in text
    assert engine.asked == 1


@pytest.mark.parametrize("body", [b"\xff\xfe", b"<html>no metrics</html>\n", b"name{unclosed 1\n"])
async def test_nonsense_is_told_and_hides_nothing_of_ours(engine: Engine, body: bytes) -> None:
    engine.body = body
    async with host_with(engine.url) as host, EngineMetrics() as engine_metrics:
        host.metrics.add_collectors([engine_metrics])
        await engine_metrics.fetch(host.watched_pools)
        registry = host.collect_metrics()

        assert registry.get_sample_value("worker_adapter_engine_metrics_up", ON_R0) == 0
        assert registry.get_sample_value("worker_adapter_replica_ready", ON_R0) == 1


async def test_what_an_engine_said_once_is_not_told_for_ever(engine: Engine) -> None:
    async with host_with(engine.url) as host, EngineMetrics() as engine_metrics:
        await engine_metrics.fetch(host.watched_pools)
        engine.body = b"\xff"
        await engine_metrics.fetch(host.watched_pools)

        assert [family.name for family in engine_metrics.collect()] == ["worker_adapter_engine_metrics_up"]


async def test_the_metrics_face_has_them(serve: Serve, engine: Engine) -> None:
    replica = {"id": "r0", "adapter": "mock", "metrics_url": engine.url}
    async with serve(pool={"replicas": [replica]}) as host:
        text = (await host.client.get("/metrics")).text

    labels = {*LABELS, "le", "quantile", "kv_cache_block_type", "gpu_uuid"}
    assert 'nv_gpu_utilization{engine="mock"' in text
    named = [line for line in text.splitlines() if line.startswith("nv_")]
    assert len(named) == 5
    for line in named:
        names = {pair.partition("=")[0] for pair in line[line.index("{") + 1 : line.index("}")].split(",")}
        assert names <= labels
