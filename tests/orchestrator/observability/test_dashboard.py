"""Every query of the Grafana dashboard is answered by real metrics, in a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import DEVNULL
from threading import Thread
from typing import Any

import anyio
import httpx
import pytest

from orchestrator.config import HostSettings
from orchestrator.observability.metrics import LABELS, OrchestratorMetrics
from orchestrator.serve import serving
from tests.orchestrator.deploy.test_alerts import ill_plugins
from tests.programs import needs, path_of
from tests.project.repository import ROOT
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.anyio

DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8"))
QUERIES: dict[str, str] = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
VARIABLES = {"$__rate_interval": "1m", "$pool": ".*", "$model": ".*"}
FUNCTIONS = {"sum", "by", "rate", "increase", "histogram_quantile", "or", "time"}
"""Words of the query language that the dashboard uses."""
COUNTERS = ("total", "bucket", "count", "sum")
ANSWER_S = 60.0

TRITONS = """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="mock",version="1"}} {n}
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{{model="mock",reason="OTHER",version="1"}} {n}
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{{model="mock",version="1"}} {n}
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{{model="mock",version="1"}} {n}
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{{model="mock",version="1"}} 2
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{{gpu_uuid="GPU-1"}} 0.5
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-1"}} 1
# TYPE nv_gpu_memory_total_bytes gauge
nv_gpu_memory_total_bytes{{gpu_uuid="GPU-1"}} 4
"""


def filled_in(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def names_in(query: str) -> set[str]:
    """The metrics that a query reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) ?\([^)]*\)", " ", query)
    return set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - FUNCTIONS - {"e6"}


def exported_names() -> set[str]:
    names = {f"{family.name}_total" if family.type == "counter" else family.name
             for family in OrchestratorMetrics().registry.collect()}  # fmt: skip
    return names | {f"{name}_bucket" for name in names}


def test_the_dashboard_reads_metrics_that_are_exported_and_leaves_none_of_ours_out() -> None:
    read = {name for query in QUERIES.values() for name in names_in(query)}
    ours = {name for name in read if not name.startswith("nv_")}

    assert ours - exported_names() == set()
    families = {name.removesuffix("_bucket") for name in ours}
    unread = {name for name in exported_names() if not name.endswith("_bucket")} - families
    assert unread == {"worker_adapter_tasks_started_total"}


@pytest.mark.spec("ORCH-3062-009")
def test_the_dashboard_selects_by_labels_that_there_are() -> None:
    known = {*LABELS, "outcome", "code", "priority", "mode", "state", "le", "reason", "gpu_uuid", "change", "status"}

    for name, query in QUERIES.items():
        for selected in re.findall(r"\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)=", selected)) <= known, name
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert set(grouped.split(", ")) <= known, name


def test_panels_have_places_and_numbers_of_their_own() -> None:
    panels = DASHBOARD["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


class Engine(BaseHTTPRequestHandler):
    """A Triton's metrics, on a machine with a GPU."""

    asked = 0

    def do_GET(self) -> None:
        Engine.asked += 1
        body = TRITONS.format(n=Engine.asked).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def engine_metrics_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join(10)


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus of our own that reads the metrics at `target`, and a client that asks it."""
    program = path_of("prometheus")
    scraped = {"job_name": "host", "static_configs": [{"targets": [target]}]}
    settings = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [scraped]}
    (directory / "prometheus.yml").write_text(json.dumps(settings))
    with anyio.fail_after(30):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
    options = {
        "config.file": directory / "prometheus.yml", "storage.tsdb.path": directory / "data",
        "web.listen-address": f"127.0.0.1:{port}", "log.level": "error",
    }  # fmt: skip
    process = await anyio.open_process(
        [program, *(f"--{name}={value}" for name, value in options.items())], stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        with anyio.CancelScope(shield=True), anyio.move_on_after(20):
            await process.wait()


async def is_answered(client: httpx.AsyncClient, query: str) -> bool:
    """Whether a query gives a figure; raises `AssertionError` when it is malformed."""
    try:
        answer = await client.get("/api/v1/query", params={"query": filled_in(query)})
    except httpx.TransportError:
        return False  # it is still starting
    if answer.status_code == 503:
        return False
    told = answer.json()
    assert told["status"] == "success", f"{query}: {told.get('error')}"
    return any(math.isfinite(float(series["value"][1])) for series in told["data"]["result"])


async def make_traffic(client: httpx.AsyncClient, number: int) -> None:
    """Tasks that end well, fail, move, are refused and are cancelled."""
    for model in ("mock", "slow", "sick", "made-up"):
        fields = {"model": model, "prompt": "Hello", "session_id": f"s{number}", "max_tokens": 3}
        if model == "slow":
            async with client.stream("POST", "/v2/tasks", json={**fields, "job_id": f"slow-{number}"}) as stream:
                assert stream.status_code == 200
                await client.delete(f"/v2/tasks/slow-{number}")
                await stream.aread()
        else:
            await client.post("/v2/tasks", json=fields)


@pytest.mark.long
@needs("prometheus")
async def test_every_query_is_answered_by_a_prometheus_that_reads_our_metrics(
    tmp_path: Path, engine_metrics_url: str
) -> None:
    replicas = [
        {"id": "r0", "options": {"fail": "connect_failed", "fail_times": 4}, "metrics_url": engine_metrics_url},
        {"id": "r1", "adapter": "dated", "options": {}},
    ]
    slow = {"id": "slow", "adapter": "mock", "replicas": [{"id": "r0", "options": {"models": ["slow"], "delay_s": 30}}]}
    sick = {
        "id": "sick", "adapter": "mock", "breaker": {"failures": 1},
        "replicas": [{"id": "r0", "options": {"models": ["sick"], "fail": "engine_failed"}}],
    }  # fmt: skip
    settings = HostSettings.model_validate({
        "pools": [{"adapter": "mock", "replicas": replicas}, slow, sick],
        "server": {"port": 0, "shutdown_grace_s": 1},
        "scrape_interval_s": 0.2,
        "read_environment": False,
    })  # fmt: skip
    async with (
        serving(settings, plugins=ill_plugins()) as host,
        httpx.AsyncClient(base_url=host.ready.url, timeout=10, trust_env=False) as client,
        prometheus(tmp_path, host.ready.url.removeprefix("http://")) as asked,
    ):
        unanswered = dict(QUERIES)
        number = 0
        with anyio.move_on_after(ANSWER_S):
            while unanswered:
                await make_traffic(client, number)
                number += 1
                for name, query in list(unanswered.items()):
                    if await is_answered(asked, query):
                        del unanswered[name]

    assert unanswered == {}


@pytest.mark.live
@pytest.mark.spec("ORCH-3062-012")
def test_a_real_triton_exports_what_the_dashboard_reads_of_it(triton: EmbeddedTriton) -> None:
    text = httpx.get(triton.metrics_url, trust_env=False, timeout=10).text
    read = {name for query in QUERIES.values() for name in names_in(query) if name.startswith("nv_")}

    assert {name for name in read if f"# TYPE {name} " not in text} <= {
        "nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes",
    }  # fmt: skip
