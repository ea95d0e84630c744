"""The engines' own metrics under our labels."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from adapter_api import EngineProps, TaskRequest
from adapter_api.testing import collect
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.replica import Replica
from orchestrator.scrape import relabelled
from orchestrator.settings import PoolSettings, ReplicaSettings
from tests.orchestrator.pooling import mock_host, orchestrator
from tests.orchestrator.test_monitor import eventually
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.anyio

EXPOSITION = """\
# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="m",version="1"} 7
# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="m",request_type="active",engine="theirs"} 3
# TYPE nv_summary summary
nv_summary{model="m",quantile="0.5"} Nan
"""


def replica(version: str = "triton 2.51.0, trtllm 0.17.0") -> Replica:
    settings = ReplicaSettings(id="r0")
    plugin = mock_host().adapter("mock")
    made = Replica(
        PoolSettings(id="p", adapter="mock", replicas=(settings,)), settings, plugin, environ=None, clock=monotonic
    )
    made.engine = "triton"
    made.props = EngineProps(engine="triton", engine_version=version)
    return made


@pytest.mark.spec("ORCH-3062-012")
async def test_an_engines_metrics_get_our_labels_and_keep_theirs() -> None:
    found = {sample.name: sample for metric in relabelled(EXPOSITION, replica()) for sample in metric.samples}

    ours = {"engine": "triton", "engine_version": "triton 2.51.0, trtllm 0.17.0", "pool_id": "p", "replica_id": "r0"}
    assert found["nv_inference_count"].labels == {**ours, "model_id": "m", "version": "1"}
    assert found["nv_trt_llm_request_metrics"].labels == {
        **ours, "model_id": "m", "request_type": "active", "exported_engine": "theirs", "trtllm_version": "0.17.0",
    }  # fmt: skip


async def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own
        list(relabelled('metric{a="b" 1', replica()))


class Metrics(BaseHTTPRequestHandler):
    body = EXPOSITION

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Metrics.body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def engine_metrics_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def with_metrics(*urls: str) -> Orchestrator:
    replicas = [{"id": f"r{i}", "metrics_url": url} for i, url in enumerate(urls)]
    fields = {
        "pools": [{"adapter": "mock", "replicas": replicas}],
        "scrape_interval_s": 0.05,
        "read_environment": False,
    }
    return Orchestrator(OrchestratorSettings.parse(fields), plugins=mock_host())


@pytest.mark.spec("ORCH-3062-012")
async def test_they_are_exported_beside_ours_for_every_replica(engine_metrics_url: str) -> None:
    async with with_metrics(engine_metrics_url, engine_metrics_url) as host:

        def exported() -> list[dict[str, str]]:
            families = text_string_to_metric_families(generate_latest(host.collect_metrics()).decode())
            return [s.labels for f in families for s in f.samples if s.name == "nv_inference_count"]

        await eventually(lambda: len(exported()) == 2)
        found = exported()

    assert {labels["replica_id"] for labels in found} == {"r0", "r1"}


async def test_an_engine_whose_metrics_cannot_be_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with with_metrics("http://127.0.0.1:1/metrics") as host:
        await eventually(lambda: "cannot read the metrics of replica default/r0" in caplog.text)
        text = generate_latest(host.collect_metrics())

    assert b"worker_adapter_replica_ready" in text
    assert b"nv_" not in text


async def test_a_host_without_metrics_of_engines_exports_its_own() -> None:
    async with orchestrator({}) as host:
        assert b"worker_adapter_slots" in generate_latest(host.collect_metrics())


@pytest.mark.live
@pytest.mark.spec("ORCH-3062-012")
async def test_a_real_tritons_metrics_are_exported(triton: EmbeddedTriton) -> None:
    replica = {"id": "r0", "options": {"url": triton.grpc_url}, "metrics_url": triton.metrics_url}
    pool = {"adapter": "triton", "replicas": [replica]}
    settings = OrchestratorSettings.parse({"pools": [pool], "scrape_interval_s": 0.2, "read_environment": False})
    async with Orchestrator(settings) as host:
        await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=2)))

        def counted() -> list[dict[str, str]]:
            families = text_string_to_metric_families(generate_latest(host.collect_metrics()).decode())
            return [
                sample.labels
                for family in families
                for sample in family.samples
                if sample.name == "nv_inference_request_success" and sample.labels["model_id"] == "tinylm"
            ]

        await eventually(lambda: bool(counted()))
        labels = counted()[0]

    assert (labels["engine"], labels["pool_id"], labels["replica_id"]) == ("triton", "default", "r0")
    assert labels["engine_version"] == f"triton {triton.version}"
