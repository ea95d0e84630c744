"""The files in deploy/ are ones that the programs they are for accept."""

from __future__ import annotations

from subprocess import run

import pytest

from adapter_api import load_plugins
from orchestrator.check import check_settings
from orchestrator.config import load_settings
from tests.programs import needs
from tests.project.repository import ROOT

DEPLOY = ROOT / "deploy"


@pytest.mark.spec("ORCH-3063-001")
def test_the_example_settings_can_be_served() -> None:
    plugins = load_plugins()
    adapters = [adapter.name for adapter in plugins.adapters]

    summary = check_settings(load_settings(DEPLOY / "orchestrator.toml", {}, adapters=adapters), plugins)

    assert [replica.pool_id for replica in summary.replicas] == ["blue", "green", "candidate"]


@needs("promtool")
def test_prometheus_accepts_its_settings() -> None:
    checked = run(
        ["promtool", "check", "config", DEPLOY / "prometheus.yml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout + checked.stderr
