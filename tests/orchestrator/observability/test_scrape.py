"""The engines' own metrics under our labels."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import anyio
import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from adapter_api import TaskRequest
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.observability.relabel import Origin, Relabelled, relabelled
from orchestrator.observability.scrape import FETCH_LIMIT
from tests.orchestrator.pooling import mock_host, orchestrator
from tests.orchestrator.pools.test_monitor import eventually, plugin_host
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


def origin(*models: str, version: str = "triton 2.51.0, trtllm 0.17.0") -> Origin:
    return Origin(engine="triton", engine_version=version, pool_id="p", replica_id="r0", models=frozenset(models))


@pytest.mark.spec("ORCH-3064-048")
def test_models_have_the_names_that_the_host_gives_them() -> None:
    named = msgspec.structs.replace(origin("chat"), names={"m": "chat", "hidden": ""})
    text = EXPOSITION + '# TYPE nv_energy gauge\nnv_energy{model="hidden"} 1\n'

    read = relabelled(text, named)

    assert {labels["model_id"] for labels in samples(read).values()} == {"chat"}
    assert read.left_out == {"model": 1}


@pytest.mark.spec("ORCH-3064-052")
@pytest.mark.parametrize("text, waiting", [
    ('# TYPE nv_inference_pending_request_count gauge\nnv_inference_pending_request_count{model="a"} 2\n'
     'nv_inference_pending_request_count{model="b"} 3\n', 5),
    ('# TYPE nv_trt_llm_request_metrics gauge\nnv_trt_llm_request_metrics{model="m",request_type="waiting"} 4\n'
     'nv_trt_llm_request_metrics{model="m",request_type="active"} 9\n', 4),
    ('# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name="m"} 1.0\n', 1),
    ('# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name="m"} NaN\n', 0),
    (EXPOSITION.replace("nv_trt_llm_request_metrics", "nv_other"), None),
])  # fmt: skip
def test_how_many_wait_in_an_engine_is_read_from_its_metrics(text: str, waiting: int | None) -> None:
    assert relabelled(text, origin("m")).waiting == waiting


def samples(read: Relabelled) -> dict[str, dict[str, str]]:
    return {sample.name: sample.labels for metric in read.metrics for sample in metric.samples}


@pytest.mark.spec("ORCH-3062-012")
def test_an_engines_metrics_get_our_labels_and_keep_those_that_have_few_values() -> None:
    read = relabelled(EXPOSITION, origin("m"))

    ours = {"engine": "triton", "engine_version": "triton 2.51.0, trtllm 0.17.0", "pool_id": "p", "replica_id": "r0"}
    assert samples(read) == {
        "nv_inference_count": {**ours, "model_id": "m", "version": "1"},
        "nv_trt_llm_request_metrics": {
            **ours,
            "model_id": "m",
            "request_type": "active",
            "trtllm_version": "0.17.0",
            "exported_engine": "theirs",
        },
        "nv_summary": {**ours, "model_id": "m", "quantile": "0.5"},
    }
    assert read.left_out == {}


@pytest.mark.spec("ORCH-3062-016")
@pytest.mark.parametrize("line, reason", [
    ('a{model="made-up"} 1', "model"),
    ('a{model_name="made-up"} 1', "model"),
    ('a{model="m",request_id="r-1"} 1', "label"),
    (f'a{{model="m",version="{"1" * 257}"}} 1', "label"),
    ("worker_adapter_tasks_total 1", "name"),
])  # fmt: skip
def test_series_that_could_be_without_number_are_left_out_and_counted(line: str, reason: str) -> None:
    read = relabelled(f'fine{{model="m"}} 1\n{line}\n', origin("m"))

    assert list(samples(read)) == ["fine"]
    assert read.left_out == {reason: 1}
    assert read.unknown_labels == (("request_id",) if "request_id" in line else ())


@pytest.mark.spec("ORCH-3062-019")
@pytest.mark.parametrize("theirs, renamed", [
    ({"engine": "0"}, {"exported_engine": "0"}),
    ({"pool_id": "x", "replica_id": "y"}, {"exported_pool_id": "x", "exported_replica_id": "y"}),
    ({"engine_version": "9"}, {"exported_engine_version": "9"}),
    ({"engine": "0", "exported_engine": "1"}, {"exported_exported_engine": "0", "exported_engine": "1"}),
    ({"exported_engine": "1"}, {"exported_engine": "1"}),
    ({"model": "m", "model_id": "7"}, {"model_id": "m", "exported_model_id": "7"}),
    ({"model_name": "m", "model": "m2"}, {"model_id": "m2", "exported_model_id": "m"}),
    ({"model_id": "m"}, {"model_id": "m"}),
])  # fmt: skip
def test_a_label_with_the_name_of_one_of_ours_makes_way(theirs: dict[str, str], renamed: dict[str, str]) -> None:
    labels = ",".join(f'{name}="{value}"' for name, value in theirs.items())

    found = samples(relabelled(f"a{{{labels}}} 1\n", origin("m", "m2", version="v")))["a"]

    ours = {"engine": "triton", "engine_version": "v", "pool_id": "p", "replica_id": "r0"}
    assert found == {**renamed, **ours}


@pytest.mark.spec("ORCH-3062-019")
def test_series_that_differ_in_such_a_label_only_stay_apart_also_of_a_histogram() -> None:
    text = "# TYPE vllm:ttft histogram\n" + "".join(
        f'vllm:ttft_{kind}{{engine="{engine}",model_name="m"{le}}} {engine + 1}\n'
        for engine in (0, 1)
        for kind, le in (("bucket", ',le="+Inf"'), ("count", ""), ("sum", ""))
    )

    read = relabelled(text, origin("m"))

    each = [(sample.name, *sorted(sample.labels.items())) for metric in read.metrics for sample in metric.samples]
    assert len(each) == len(set(each)) == 6
    assert read.left_out == {}


@pytest.mark.spec("ORCH-3062-019")
def test_a_series_that_is_told_twice_is_told_once_and_counted() -> None:
    read = relabelled('a{model="m"} 1\na{model="m"} 2\n', origin("m"))

    assert [sample.value for metric in read.metrics for sample in metric.samples] == [1]
    assert read.left_out == {"twice": 1}


@pytest.mark.spec("ORCH-3062-016")
def test_a_huge_engine_gets_no_more_series_than_the_limit() -> None:
    text = "".join(f'nv_count{{model="m{number}",version="1"}} 1\n' for number in range(50))

    read = relabelled(text, origin(), limit=20)

    assert sum(len(metric.samples) for metric in read.metrics) == 20
    assert read.left_out == {"limit": 30}


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own
        relabelled('metric{a="b" 1', origin())


class Metrics(BaseHTTPRequestHandler):
    body = EXPOSITION
    status = 200
    reads = 0

    def do_GET(self) -> None:
        Metrics.reads += 1
        self.send_response(Metrics.status)
        self.end_headers()
        self.wfile.write(Metrics.body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def engine_metrics_url() -> Iterator[str]:
    Metrics.body, Metrics.status = EXPOSITION, 200
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def with_metrics(*urls: str) -> Orchestrator:
    replicas = [{"id": f"r{i}", "metrics_url": url, "options": {"models": ["mock", "m"]}} for i, url in enumerate(urls)]
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


@pytest.mark.spec("ORCH-3062-016")
async def test_what_is_left_out_is_told_once_and_counted(
    engine_metrics_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    Metrics.body = 'a{model="mock"} 1\na{model="made-up"} 1\nb{request_id="r-1"} 1\n'
    async with with_metrics(engine_metrics_url) as host:

        def left_out() -> dict[str, float]:
            families = text_string_to_metric_families(generate_latest(host.collect_metrics()).decode())
            return {
                s.labels["reason"]: s.value
                for family in families
                for s in family.samples
                if s.name == "worker_adapter_engine_series_left_out"
            }

        await eventually(lambda: left_out() == {"model": 1, "label": 1})
        read = Metrics.reads
        await eventually(lambda: Metrics.reads > read + 2)

    assert caplog.text.count("metrics of replica default/r0 are left out") == 1
    assert "'request_id'" in caplog.text


@pytest.mark.parametrize(
    "body, why",
    [("x" * (FETCH_LIMIT + 1), f"more than {FETCH_LIMIT} bytes"), ("a{", "what is told there are no metrics")],
    ids=["too large", "no exposition"],
)
async def test_metrics_that_are_too_large_or_none_at_all_are_left_out(
    engine_metrics_url: str, body: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    Metrics.body = body
    async with with_metrics(engine_metrics_url) as host:
        await eventually(lambda: f"cannot read the metrics of replica default/r0: {why}" in caplog.text)

        assert host.ready


async def test_the_log_says_why_metrics_cannot_be_read_and_when_they_can_again(
    engine_metrics_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    Metrics.body, Metrics.status = EXPOSITION, 404
    async with with_metrics(engine_metrics_url) as host:
        await eventually(lambda: "replica default/r0: it answers 404 (look at its metrics_url)" in caplog.text)

        Metrics.status = 200
        await eventually(lambda: "the metrics of replica default/r0 are read again" in caplog.text)

        assert host.ready
    assert caplog.text.count("it answers 404") == 1


async def test_the_log_says_that_nothing_listens_where_metrics_should_be(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with with_metrics(f"http://127.0.0.1:{port}/metrics?key=secret"):
        await eventually(lambda: "replica default/r0: Connection refused" in caplog.text)

    assert "secret" not in caplog.text


@pytest.mark.spec("ORCH-3062-012")
async def test_nothing_is_read_before_the_first_probe_has_told_the_version(engine_metrics_url: str) -> None:
    plugins = plugin_host(slow="tests.orchestrator.observability.test_scrape:SlowToOpen")
    pool = {
        "adapter": "slow", "replicas": [{"id": "r0", "metrics_url": engine_metrics_url}],
        "health": {"start_wait_s": 0},
    }  # fmt: skip
    settings = OrchestratorSettings.parse({"pools": [pool], "scrape_interval_s": 0.01, "read_environment": False})
    Metrics.reads, SlowToOpen.may_open = 0, anyio.Event()
    async with Orchestrator(settings, plugins=plugins) as host:
        await anyio.sleep(0.1)  # ten times the interval
        assert Metrics.reads == 0

        SlowToOpen.may_open.set()
        await eventually(lambda: b'engine_version="1.0"' in generate_latest(host.collect_metrics()))
        assert b'engine_version=""' not in generate_latest(host.collect_metrics())


class SlowToOpen(MockAdapter):
    may_open: anyio.Event

    async def _open(self) -> None:
        await SlowToOpen.may_open.wait()


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
