"""The files in `deploy/` are right: the settings are accepted, and a real Prometheus evaluates every alert."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from orchestrator.config import HostSettings, load_settings
from orchestrator.serve import serving
from tests.orchestrator.pooling import mock_host
from tests.programs import needs, path_of

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.spec("ORCH-3063-001")
def test_the_example_file_is_accepted() -> None:
    settings = load_settings(DEPLOY / "orchestrator.toml", {}, adapters=["triton"]).settings

    assert settings.server.is_loopback
    assert all(pool.replicas for pool in settings.pools)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def prometheus(tmp_path: Path, target: str) -> Iterator[str]:
    program = path_of("prometheus")
    config = (DEPLOY / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8080", target).replace("scrape_interval: 15s", "scrape_interval: 500ms")
    config += "global:\n  evaluation_interval: 500ms\n"
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
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


async def rules(client: httpx.AsyncClient) -> list[Any]:
    try:
        groups = (await client.get("/api/v1/rules")).json()["data"]["groups"]
    except (httpx.TransportError, ValueError):
        return []  # it is starting
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.spec("ORCH-3062-009")
@pytest.mark.long  # test_alerts has each of them fire, with time scaled down
@needs("prometheus")
async def test_a_real_prometheus_evaluates_every_alert_and_sees_a_dead_replica(tmp_path: Path) -> None:
    settings = HostSettings.model_validate({
        "pools": [{"adapter": "mock", "replicas": [{"id": "r0", "options": {"state": "unreachable"}}]}],
        "server": {"port": 0, "shutdown_grace_s": 1}, "read_environment": False,
    })  # fmt: skip
    async with serving(settings, plugins=mock_host()) as host:
        with prometheus(tmp_path, host.ready.url.removeprefix("http://")) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                found: dict[str, Any] = {}
                with anyio.fail_after(60):
                    while found.get("NoReplicaReady", {}).get("state") != "pending":
                        await anyio.sleep(0.3)
                        found = {rule["name"]: rule for rule in await rules(client)}

    assert {"NoReplicaReady", "ReplicaOut", "QueueFull", "TasksFail"} <= set(found)
    assert all(rule["health"] == "ok" for rule in found.values()), found
    assert found["ReplicaOut"]["state"] == "pending"


def test_the_unit_file_names_commands_there_are() -> None:
    from worker_adapter.cli import ProgramGroup

    text = (DEPLOY / "worker-adapter.service").read_text()

    assert {"serve", "check"} <= {command.name for command in ProgramGroup.own}
    assert "worker-adapter serve" in text
    assert "worker-adapter check" in text
