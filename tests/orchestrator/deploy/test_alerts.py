"""Every alert fires in a real Prometheus when what it is about happens, and none fires for a host that is well.

One Prometheus looks at two hosts: a healthy one, and one with a pool for each way to be ill. Times in the rules are
scaled down, so that ten minutes are five seconds.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from adapter_api import (
    AdapterPlugin,
    ConfigurationError,
    EngineProps,
    HealthState,
    PluginHost,
    TaskRequest,
    Token,
    hookimpl,
    testing,
)
from adapter_api.testing import MockAdapter
from orchestrator.config import HostSettings, Loaded
from orchestrator.serve import Serving, serving
from tests.orchestrator.deploy.test_deploy import DEPLOY, free_port
from tests.orchestrator.pooling import QUICK_HEALTH, adapter_of, mock_host
from tests.programs import needs, path_of
from tests.project.repository import ROOT

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3062-018")]

RULES = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
ALERTS = tuple(re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE))
FASTER = 120
"""How much faster time goes by in the test's rules."""
SECONDS_FASTER = 20
"""The same for thresholds that are seconds: less, because this machine is as fast as it is."""
UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000}
FIRES_S = 110.0
TOMORROW = time.time() + 86400


def scaled(rules: str) -> str:
    def shorter(found: re.Match[str]) -> str:
        return f"{int(found[1]) * UNIT_MS[found[2]] // FASTER}ms"

    rules = re.sub(r"(?<=for: )(\d+)([smh])", shorter, rules)
    rules = re.sub(r"(?<=\[)(\d+)([smh])(?=\])", shorter, rules)
    # A quantile of seconds: `_seconds_bucket[…]))) > 5`.
    return re.sub(r"(?<=ms\]\)\)\) > )(\d+)", lambda found: f"{int(found[1]) / SECONDS_FASTER:g}", rules)


class Dated(MockAdapter):
    """Its engine knows it by a certificate that is about to end."""

    async def _props(self) -> EngineProps:
        return msgspec.structs.replace(await super()._props(), certificate_expires_at=TOMORROW)


class DatedPlugin:
    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        return AdapterPlugin(
            name="dated", adapter=f"{__name__}:Dated", settings="adapter_api.testing:MockSettings", api_version="1.0"
        )


class BrokenPlugin:
    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        raise RuntimeError("it broke")


def ill_plugins() -> PluginHost:
    host = mock_host()
    host.add("dated", DatedPlugin())
    host.add("broken", BrokenPlugin())
    return host


def pool(name: str, *, adapter: str = "mock", slots: int | None = None, **options: Any) -> dict[str, Any]:
    replica = {"id": "r0", "slots": slots, "options": {"models": ["a", "b"], **options}}
    queue = {"limit": 4, "timeout_s": 60}
    return {"id": name, "adapter": adapter, "replicas": [replica], "health": QUICK_HEALTH, "queue": queue}


ILL = {
    "down": ("NoReplicaReady", "ReplicaOut"),
    "flapping": ("ReplicaFlaps",),
    "failing": ("TasksFail", "TasksMove", "BreakerOpen"),
    "sick": ("ModelFails",),
    "forgetful": ("ModelGone",),
    "full": ("QueueFull", "TasksRefused"),
    "waiting": ("QueueWaits",),
    "slow": ("FirstTokenSlow",),
    "dated": ("CertificateEndsSoon", "CertificateEnds"),
}
"""Pools of the host that is ill, and the alerts that must name them; they may have others."""
OF_THE_HOST = ("JournalNotWritten", "PluginBroken", "ReloadRefused")
POOLS = [
    pool("down", state="unreachable"),
    pool("flapping"),
    {**pool("failing", fail="connect_failed"), "breaker": {"failures": 1, "open_s": 0.05, "max_open_s": 0.05}},
    {**pool("sick", fail="engine_failed"), "breaker": {"failures": 1}},
    pool("forgetful"),
    pool("full", slots=1, hang_after=0),
    pool("waiting", slots=1, delay_s=0.4),
    pool("slow", delay_s=1.2),
    pool("dated", adapter="dated"),
]


def no_settings() -> Loaded:
    raise ConfigurationError("line 7 says nothing")


@asynccontextmanager
async def a_host(pools: list[dict[str, Any]], plugins: PluginHost, journal: Path) -> AsyncIterator[Serving]:
    settings = HostSettings.model_validate(
        {
            "pools": pools, "server": {"port": 0, "shutdown_grace_s": 0.1}, "read_environment": False,
            "retention": {"file": str(journal)},
        }
    )  # fmt: skip
    async with serving(settings, plugins=plugins, load=no_settings) as host:
        yield host


async def keep_busy(host: Serving, pool_id: str, pause_s: float = 0.05) -> None:
    """Submit one task after the other."""
    while True:
        task = TaskRequest(model="a", prompt="p", max_tokens=1)
        try:
            await testing.collect(host.orchestrator.accept(task, pool_id=pool_id))
        except Exception:
            pass
        await anyio.sleep(pause_s)


async def keep_tasks_in_vain(host: Serving) -> None:
    """Write to a journal whose disk has no page left."""
    journal = host.service.kept._journal
    assert journal is not None
    journal._connection.execute("PRAGMA max_page_count = 1")
    for number in count():
        await journal.append("j", number, [Token(number, "x" * 9000)])
        await anyio.sleep(0.2)


async def make_it_ill(host: Serving, seen: anyio.Event) -> None:
    """For ever. What can be missed only by who had it before goes once the host was `seen`."""
    async with anyio.create_task_group() as group:
        for pool_id, clients in {"failing": 2, "sick": 1, "waiting": 4, "slow": 4, "full": 6}.items():
            for _ in range(clients):
                group.start_soon(keep_busy, host, pool_id)
        group.start_soon(keep_tasks_in_vain, host)
        flapping, forgetful = (
            adapter_of(host.orchestrator, "r0", "flapping"),
            adapter_of(host.orchestrator, "r0", "forgetful"),
        )
        assert isinstance(flapping, MockAdapter)
        assert isinstance(forgetful, MockAdapter)
        forgotten = False
        while True:
            for state in (HealthState.STOPPED, HealthState.READY):
                flapping.settings = flapping.settings.model_copy(update={"state": state})
                await anyio.sleep(0.5)
            if seen.is_set() and not forgotten:
                forgetful.settings = forgetful.settings.model_copy(update={"models": ("a",)})
                assert host.service.reload is not None
                with pytest.raises(ConfigurationError):
                    await host.service.reload()
                forgotten = True


Firing = dict[str, list[dict[str, str]]]
"""The labels of what fires, by alert."""


class Prometheus:
    def __init__(self, directory: Path, client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
        self._directory = directory
        self._client = client
        self._process = process

    def look_at(self, *urls: str) -> None:
        """Have these targets, and no others."""
        write_settings(self._directory, [url.removeprefix("http://") for url in urls])
        self._process.send_signal(signal.SIGHUP)

    async def firing(self) -> Firing:
        """Return the labels of what fires, by alert."""
        try:
            groups = (await self._client.get("/api/v1/rules")).json()["data"]["groups"]
        except (httpx.TransportError, ValueError):
            return {}  # it is starting
        rules = [rule for group in groups for rule in group["rules"]]
        assert not [rule for rule in rules if rule["health"] == "err"], rules
        return {
            rule["name"]: [alert["labels"] for alert in rule["alerts"] if alert["state"] == "firing"] for rule in rules
        }

    async def until(self, wanted: Callable[[Firing], set[str]]) -> Firing:
        """Return what fires, as soon as nothing that is wanted is missing."""
        missing: set[str] = set()
        with anyio.move_on_after(FIRES_S):
            while True:
                firing = await self.firing()
                missing = wanted(firing)
                if not missing:
                    return firing
                await anyio.sleep(0.2)
        raise AssertionError(f"does not fire: {sorted(missing)}")


def write_settings(directory: Path, targets: list[str]) -> None:
    text = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    text = text.replace('["127.0.0.1:8080"]', json.dumps(targets))
    text = text.replace("scrape_interval: 15s", "scrape_interval: 250ms\n    scrape_timeout: 250ms")
    (directory / "prometheus.yml").write_text(f"{text}global:\n  evaluation_interval: 150ms\n")


@asynccontextmanager
async def prometheus(directory: Path, *urls: str) -> AsyncIterator[Prometheus]:
    program = path_of("prometheus")
    write_settings(directory, [url.removeprefix("http://") for url in urls])
    (directory / "alerts.yml").write_text(scaled(RULES), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is stopped by a signal, below
            [program, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
             f"--web.listen-address={address}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=10) as client:
            yield Prometheus(directory, client, process)
    finally:
        process.terminate()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(process.wait)


@pytest.mark.long
@needs("prometheus")
async def test_every_alert_fires_for_what_it_is_about_and_none_for_a_host_that_is_well(tmp_path: Path) -> None:
    seen = anyio.Event()

    def silent(firing: Firing) -> set[str]:
        named = {(name, labels.get("pool_id", "")) for name, alerts in firing.items() for labels in alerts}
        if ("NoReplicaReady", "down") in named:
            seen.set()
        wanted = {(name, pool_id) for pool_id, names in ILL.items() for name in names}
        wanted |= {(name, "") for name in OF_THE_HOST}
        return {f"{name} of {pool_id or 'the host'}" for name, pool_id in wanted - named}

    async with (
        a_host([pool("well")], mock_host(), tmp_path / "well") as well,
        prometheus(tmp_path, well.ready.url) as watching,
        anyio.create_task_group() as clients,
    ):
        clients.start_soon(keep_busy, well, "well")
        await watching.until(lambda firing: {"anything at all"} - set(firing) if not firing else set())
        async with a_host(POOLS, ill_plugins(), tmp_path / "ill") as ill, anyio.create_task_group() as illness:
            watching.look_at(well.ready.url, ill.ready.url)
            illness.start_soon(make_it_ill, ill, seen)
            fired = await watching.until(silent)
            illness.cancel_scope.cancel()
        down = await watching.until(lambda firing: set() if firing.get("HostDown") else {"HostDown"})
        watching.look_at()
        gone = await watching.until(lambda firing: set() if firing.get("HostMissing") else {"HostMissing"})
        clients.cancel_scope.cancel()

    healthy = well.ready.url.removeprefix("http://")
    assert [
        (name, labels)
        for name, alerts in {**fired, **down}.items()
        for labels in alerts
        if labels["instance"] == healthy
    ] == []
    assert [labels["instance"] for labels in down["HostDown"]] == [ill.ready.url.removeprefix("http://")]
    assert {name for name, alerts in fired.items() if alerts} | {"HostDown", "HostMissing"} == set(ALERTS)
    assert gone["HostMissing"]


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    assert list(sections()) == list(ALERTS)
    assert re.findall(r'runbook: "docs/runbook\.md#(\w+)"', RULES) == [name.lower() for name in ALERTS]


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_it_means_and_what_to_do(name: str) -> None:
    text = sections()[name]

    assert text.index("**Means:**") < text.index("**Do:**")


def test_time_is_scaled_in_every_rule() -> None:
    assert not re.search(r"\d[mh]\b|for: \d+s", scaled(RULES))
    assert scaled(RULES).count("ms") == len(re.findall(r"for: \d|\[\d", RULES))
