"""The files in `deploy/dynamo`: what can be seen to be right of them without machines."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dynamo_worker.settings import WorkerSettings
from tests.programs import needs, path_of
from tests.project.repository import ROOT
from worker_adapter.commands.dynamo_worker import dynamo_worker

no_spec = "deployment files are help, not behaviour"

HERE = ROOT / "deploy" / "dynamo"
UNIT = (HERE / "dynamo-worker@.service").read_text()
DYNAMO_S = {"DYN_TCP_RPC_HOST", "DYN_SYSTEM_HOST", "DYN_SYSTEM_PORT", "DYN_LOG", "ETCD_ENDPOINTS"}
"""Variables that Dynamo's runtime reads itself."""


def environment(name: str) -> dict[str, str]:
    lines = [line for line in (HERE / name).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def parameters(options: list[str]) -> dict[str, Any]:
    """Return what the command makes of options; one that it has not is an error."""
    alone = typer.Typer()
    alone.command()(dynamo_worker)
    return dict(typer.main.get_command(alone).make_context("dynamo-worker", list(options)).params)


def started() -> list[str]:
    """Return what the unit starts, with the options of the engine's file."""
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)
    options = environment("dynamo-gpu0.env")["OPTIONS"].split()
    return [part for word in shlex.split(line) for part in (options if word == "$OPTIONS" else [word])]


def test_the_unit_starts_the_worker_with_options_it_has() -> None:
    program, name, *options = started()

    assert (Path(program).name, name) == ("worker-adapter", "dynamo-worker")
    made = parameters(options)
    assert (made["openai_port"], made["kserve_port"]) == (8080, 8000)


def test_what_runs_gets_its_time_before_systemd_kills() -> None:
    drain = parameters(started()[2:])["drain"]
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)

    assert int(stop) > drain


def test_the_variables_are_those_of_dynamo_and_of_the_program() -> None:
    given = environment("dynamo.env")
    settings = WorkerSettings.from_env(given)

    assert (settings.discovery, settings.request_plane, settings.namespace) == ("etcd", "tcp", "production")
    read = {"DYN_DISCOVERY_BACKEND", "DYN_REQUEST_PLANE", "DYN_NAMESPACE", "WORKER_ADAPTER_URL", "OPTIONS"}
    assert given.keys() | environment("dynamo-gpu0.env").keys() <= read | DYNAMO_S
    assert int(environment("dynamo-gpu0.env")["DYN_SYSTEM_PORT"]) < 32768
    files = re.findall(r"^EnvironmentFile=(.+)$", UNIT, re.MULTILINE)
    assert files == ["/etc/worker-adapter/dynamo.env", "/etc/worker-adapter/dynamo-%i.env"]


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", ["dynamo-worker@gpu0.service"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, unit: str) -> None:
    # Its program is not installed where the unit looks for it.
    text = UNIT.replace("/opt/worker-adapter/bin/worker-adapter", "/bin/true")
    (tmp_path / unit).write_text(text)

    told = subprocess.run([path_of("systemd-analyze"), "verify", str(tmp_path / unit)], capture_output=True, text=True)

    assert [line for line in told.stderr.splitlines() if unit in line] == []
