"""A host as a process of its own: started, told by signals, stopped."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from adapter_api import ConfigurationError
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.orchestrator.http.sse_reading import frames
from tests.orchestrator.pooling import mock_host
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

PROGRAM = """
import json, sys
from pathlib import Path
import msgspec
from orchestrator.config import load_settings
from orchestrator.observability.logging import configure_logging
from orchestrator.serve import run
path = Path(sys.argv[1])
def load():
    loaded = load_settings(path, {}, adapters=["mock"])
    configure_logging(loaded.settings.log, loaded.secrets)
    return loaded
run(load, on_ready=lambda ready: print(json.dumps(msgspec.to_builtins(ready)), flush=True))
"""
CONFIG = """
read_environment = false
[server]
port = 0
shutdown_grace_s = 10
[[pools]]
adapter = "mock"
[[pools.replicas]]
id = "r0"
options = { delay_s = 0.01, reply = "one two three four five six seven eight nine ten" }
"""


class Process:
    def __init__(self, popen: subprocess.Popen[str], ready: dict[str, Any], config: Path, log: Path) -> None:
        self.popen = popen
        self.ready = ready
        self.config = config
        self.log = log

    async def ended(self) -> int:
        return await anyio.to_thread.run_sync(lambda: self.popen.wait(timeout=30))


@contextlib.contextmanager
def process(tmp_path: Path, settings: str = CONFIG, program: str = PROGRAM) -> Iterator[Process]:
    config, log = tmp_path / "orchestrator.toml", tmp_path / "log"
    config.write_text(settings, encoding="utf-8")
    with log.open("w") as errors, subprocess.Popen(
        [sys.executable, "-c", program, str(config)], stdout=subprocess.PIPE, stderr=errors, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as popen:  # fmt: skip
        try:
            assert popen.stdout is not None
            line = popen.stdout.readline()
            assert line, log.read_text()
            yield Process(popen, json.loads(line), config, log)
        finally:
            if popen.poll() is None:
                popen.kill()


@pytest.mark.spec("ORCH-3064-016")
async def test_sigterm_lets_tasks_finish_refuses_new_ones_and_ends_well(tmp_path: Path) -> None:
    with process(tmp_path) as host:
        assert host.ready["models"] == ["mock"]
        assert host.ready["pid"] == host.popen.pid
        seen: list[str] = []
        async with httpx.AsyncClient(base_url=host.ready["url"], trust_env=False) as client:
            task = {"model": "mock", "prompt": "p", "max_tokens": 10}
            async with client.stream("POST", "/v2/tasks", json=task) as response:
                async for frame in frames(response):
                    if not seen:
                        host.popen.send_signal(signal.SIGTERM)
                    seen.append(frame.event)
        code = await host.ended()

        assert seen.count("token") == 10
        assert seen[-1] == "end"
        assert code == 0
        assert "refusing new tasks" in host.log.read_text()


@pytest.mark.spec("ORCH-3064-016")
async def test_a_second_signal_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    with process(tmp_path, CONFIG.replace("delay_s = 0.01", "hang_after = 1")) as host:
        async with httpx.AsyncClient(base_url=host.ready["url"], trust_env=False, timeout=30) as client:
            task = {"model": "mock", "prompt": "p", "max_tokens": 10}
            async with client.stream("POST", "/v2/tasks", json=task) as response:
                async for frame in frames(response):
                    if frame.event == "token":
                        break
                host.popen.send_signal(signal.SIGTERM)
                await eventually(lambda: "refusing new tasks" in host.log.read_text())
                host.popen.send_signal(signal.SIGTERM)
                with anyio.fail_after(8):  # the grace is 10 s
                    assert await host.ended() == 0


async def test_a_host_that_runs_does_not_look_for_garbage_among_its_modules(tmp_path: Path) -> None:
    program = PROGRAM.replace("import json, sys", "import gc, json, sys").replace(
        "msgspec.to_builtins(ready)", '{"frozen": gc.get_freeze_count(), "threshold": gc.get_threshold()[0]}'
    )
    program += "print(json.dumps([gc.get_freeze_count(), gc.get_threshold()]))"
    with process(tmp_path, program=program) as host:
        host.popen.send_signal(signal.SIGTERM)
        assert await host.ended() == 0
        assert host.popen.stdout is not None
        afterwards = json.loads(host.popen.stdout.readline())

    assert host.ready["frozen"] > 10_000
    assert host.ready["threshold"] > gc.get_threshold()[0]
    assert afterwards == [0, list(gc.get_threshold())]


async def test_sighup_reloads_the_file_or_leaves_everything_as_it_is(tmp_path: Path) -> None:
    with process(tmp_path) as host:
        async with httpx.AsyncClient(base_url=host.ready["url"], trust_env=False) as client:

            async def models() -> list[str]:
                return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]

            host.config.write_text(CONFIG + "\n[server.limits]\nwrong = 1\n")
            host.popen.send_signal(signal.SIGHUP)
            await eventually(lambda: "reload refused" in host.log.read_text())
            after_a_bad_one = await models()
            host.config.write_text(CONFIG.replace("delay_s = 0.01", 'models = ["a", "b"]'))
            host.popen.send_signal(signal.SIGHUP)
            await eventually(lambda: "reloaded: 1 replicas added, 1 removed" in host.log.read_text())
            after_a_good_one = await models()
        host.popen.send_signal(signal.SIGINT)

        assert after_a_bad_one == ["mock"]
        assert after_a_good_one == ["a", "b"]
        assert "orchestrator.toml:" in host.log.read_text()
        assert await host.ended() == 0


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"pools": [{"adapter": "mock", "replicas": [{"id": "r0"}]}], "read_environment": False}
    async with serving(HostSettings.model_validate({**fields, "server": {"port": 0}}), plugins=mock_host()) as host:
        port = int(host.ready.url.rsplit(":", 1)[1])
        again = HostSettings.model_validate({**fields, "server": {"port": port}})

        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with serving(again, plugins=mock_host()):
                pass


async def test_tls_serves_and_a_bad_certificate_is_told(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = await anyio.run_process(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    fields: dict[str, Any] = {"pools": [{"adapter": "mock", "replicas": [{"id": "r0"}]}], "read_environment": False}
    tls = {"port": 0, "tls": {"certificate": str(certificate), "key": str(key)}}
    async with serving(HostSettings.model_validate({**fields, "server": tls}), plugins=mock_host()) as host:
        import ssl

        context = ssl.create_default_context(cafile=str(certificate))
        async with httpx.AsyncClient(base_url=host.ready.url, verify=context, trust_env=False) as client:
            assert (await client.get("/livez")).text == "ok\n"

    certificate.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"server\.tls"):
        async with serving(HostSettings.model_validate({**fields, "server": tls}), plugins=mock_host()):
            pass
