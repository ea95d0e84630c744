"""The files in `deploy/` are right: a real Prometheus answers every query of the dashboard and takes every alert."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from adapter_api import TaskRequest
from adapter_api.testing import collect
from orchestrator.config import HostSettings, load_settings
from orchestrator.serve import serving
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.spec("ORCH-3063-001")
def test_the_example_file_is_accepted_and_shows_the_defaults() -> None:
    settings = load_settings(DEPLOY / "orchestrator.toml", {}, adapters=["triton"]).settings
    pool = settings.pools[0]
    bare = HostSettings.model_validate({
        "pools": [{"adapter": "triton", "replicas": [{"id": "r0", "options": pool.replicas[0].options,
                                                      "metrics_url": pool.replicas[0].metrics_url}]}]
    })  # fmt: skip

    assert settings == bare


def queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "orchestrator.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(found) > 15
    return [expr.replace("$pool", ".*").replace("$__rate_interval", "10s") for expr in found]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def prometheus(tmp_path: Path, target: str) -> Iterator[str]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no prometheus on PATH")
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8080", target).replace("15s", "500ms")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    port = free_port()
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        [program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=log, stderr=log,
    ) as running:  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait(timeout=30)


async def answer(client: httpx.AsyncClient, query: str) -> list[Any]:
    response = await client.get("/api/v1/query", params={"query": query})
    assert response.status_code == 200, (query, response.text)
    return list(response.json()["data"]["result"])


@pytest.mark.live
@pytest.mark.spec("ORCH-3062-012")
async def test_a_real_prometheus_answers_every_query_of_the_dashboard(tmp_path: Path, triton: EmbeddedTriton) -> None:
    replica = {"id": "r0", "options": {"url": triton.grpc_url}, "metrics_url": triton.metrics_url}
    dead = {"id": "r1", "options": {"url": "grpc://127.0.0.1:1"}}
    settings = HostSettings.model_validate({
        "pools": [{"adapter": "triton", "replicas": [replica, dead], "health": {"start_wait_s": 1}}],
        "server": {"port": 0, "shutdown_grace_s": 1}, "scrape_interval_s": 0.5, "read_environment": False,
    })  # fmt: skip
    async with serving(settings) as host:
        orchestrator = host.orchestrator

        async def some_traffic() -> None:
            await collect(orchestrator.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=5)))
            await collect(orchestrator.submit(TaskRequest(model="nope", prompt="The")))
            stream = orchestrator.submit(TaskRequest(model="slow", prompt="The", priority="batch"))
            await anext(stream)
            await orchestrator.cancel(stream.job_id)
            # What no well engine does: a task that moves on.
            orchestrator.metrics._retries.labels("triton", "x", "default", "r1", "connect_failed").inc()

        with prometheus(tmp_path, host.ready.url.removeprefix("http://")) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                unanswered = set(queries())
                with anyio.fail_after(60):
                    while unanswered:
                        await some_traffic()
                        await anyio.sleep(0.5)
                        try:
                            unanswered = {query for query in unanswered if not await answer(client, query)}
                        except httpx.TransportError:
                            continue  # it is starting
                rules = (await client.get("/api/v1/rules")).json()["data"]["groups"]

    alerts = [rule for group in rules for rule in group["rules"]]
    assert [alert["name"] for alert in alerts] == ["NoReplicaReady", "ReplicaOut", "QueueGrows", "TasksFail"]
    assert all(alert["health"] in ("ok", "unknown") for alert in alerts), alerts


def test_the_unit_file_names_commands_there_are() -> None:
    from worker_adapter.cli import ProgramGroup

    text = (DEPLOY / "worker-adapter.service").read_text()

    assert {"serve", "check"} <= {command.name for command in ProgramGroup.own}
    assert "worker-adapter serve" in text
    assert "worker-adapter check" in text
