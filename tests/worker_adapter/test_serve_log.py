"""What `worker-adapter serve` writes to standard error is JSON lines and nothing else, whatever its engines do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.spec("ORCH-3062-023")

SETTINGS = """
read_environment = false
[server]
port = 0
shutdown_grace_s = 1
[[pools]]
adapter = "triton"
health = {{ interval_s = 0.1, fall = 1 }}
{replicas}
"""


def replica(name: str, url: str, tls: str = "") -> str:
    return f'[[pools.replicas]]\nid = "{name}"\noptions = {{ url = "{url}", control_timeout_s = 2{tls} }}\n'


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Replicas: one that will be killed, a closed port, TLS spoken to plaintext, a CA that nobody knows."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    program = (
        "import time, sys; from triton_adapter.testing import FakeTriton\n"
        "with FakeTriton() as fake:\n    print(fake.grpc_url, flush=True)\n    time.sleep(60)\n"
    )
    with FakeTriton() as well, subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as dying:  # fmt: skip
        assert dying.stdout is not None
        doomed = dying.stdout.readline().strip()
        trust = f', tls = {{ ca_file = "{tmp_path}/ca.pem" }}'
        replicas = [
            replica("well", well.grpc_url), replica("doomed", doomed), replica("closed", "grpc://127.0.0.1:9"),
            replica("tls", well.grpc_url.replace("grpc://", "grpcs://"), trust),
        ]  # fmt: skip
        yield SETTINGS.format(replicas="".join(replicas)), dying
        dying.kill()


@pytest.mark.parametrize("wanted", [None, "ERROR"])
def test_the_log_is_json_lines_also_when_engines_die_and_tls_is_refused(
    engines: tuple[str, subprocess.Popen[str]], tmp_path: Path, wanted: str | None
) -> None:
    (tmp_path / "orchestrator.toml").write_text(engines[0])
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    if wanted is not None:
        environment["GRPC_VERBOSITY"] = wanted
    log = tmp_path / "log"
    with log.open("w") as errors, subprocess.Popen(
        [sys.executable, "-m", "worker_adapter", "serve", "--json", "--config", str(tmp_path / "orchestrator.toml")],
        stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
    ) as host:  # fmt: skip
        try:
            assert host.stdout is not None
            url = json.loads(host.stdout.readline())["url"]
            told: dict[str, str] = {}
            ends = time.monotonic() + 30
            while time.monotonic() < ends and len(told) < 3:
                pools = httpx.get(f"{url}/v2/pools", trust_env=False).json()["pools"]
                told = {r["replica_id"]: r["reason"] for r in pools[0]["replicas"] if r["reason"]}
                if "closed" in told and "tls" in told and "doomed" not in told:
                    engines[1].kill()
        finally:
            host.send_signal(signal.SIGTERM)
            assert host.wait(timeout=30) == 0

    assert set(told) == {"doomed", "closed", "tls"}
    lines = log.read_text().splitlines()
    if wanted is None:
        assert len([line for line in map(json.loads, lines) if line.get("change") == "replica_down"]) >= 3
    else:  # whoever asks grpc to speak hears it
        assert lines
