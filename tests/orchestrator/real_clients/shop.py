"""A host in front of a model that calls tools, and how others' programs are run against it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from real_clients import CLIENTS, environment_of, is_made

import triton_adapter.embedded
from tests.worker_adapter.program import Running
from triton_adapter.embedded import EmbeddedTriton

HERE = Path(__file__).parent
MODEL = "toolcaller"
EMBEDDER = Path(triton_adapter.embedded.__file__).parent / "models" / "embedder"
GRAMMARS = ("hermes", "llama3_json", "mistral", "pythonic")
"""Each has a pool, whose template teaches it: `toolcaller-mistral`. The first one's model is just `toolcaller`."""
TWO_STEPS = [["get_price", {"item": "lamp"}], ["multiply", {"a": 12.5, "b": 3}]]
"""What is called for "Look up the price of a lamp, then multiply it by 3."."""
_RUNS_S = 300.0
_SETTLES_S = 20.0


@dataclass(frozen=True)
class Shop:
    """A running host. `key` is a client of it, `limited` one that may ask but once a minute."""

    url: str
    key: str = field(repr=False)
    limited: str = field(repr=False)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a program: what says where the host is, and nothing of whoever runs the tests."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        return {
            **kept, "OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": self.key, "NO_PROXY": "*", "no_proxy": "*",
            "HF_HUB_DISABLE_TELEMETRY": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "AI_SDK_LOG_WARNINGS": "false",
            "NODE_NO_WARNINGS": "1", "DO_NOT_TRACK": "1", **more,
        }  # fmt: skip

    def cancelled(self) -> int:
        """Return how many tasks were cancelled."""
        lines = self._get("/metrics").splitlines()
        found = [line for line in lines if line.startswith("worker_adapter_tasks_total{") and '"cancelled"' in line]
        return sum(int(float(line.rpartition(" ")[2])) for line in found)

    def wait_until_left(self, cancelled: int) -> None:
        """Return when no engine works any more, and so many tasks were cancelled."""
        deadline = time.monotonic() + _SETTLES_S
        while (found := (self._in_flight(), self.cancelled())) != (0, cancelled):
            assert time.monotonic() < deadline, f"in flight and cancelled: {found}, not (0, {cancelled})"
            time.sleep(0.02)  # another process tells of no event

    def _in_flight(self) -> int:
        return sum(pool["in_flight"] for pool in json.loads(self._get("/v2/pools"))["pools"])

    def _get(self, path: str) -> str:
        request = Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.key}"})
        with urlopen(request, timeout=30) as response:
            text: bytes = response.read()
        return text.decode()


@contextmanager
def shop_of(folder: Path, *, cors_origins: Sequence[str] = ()) -> Iterator[Shop]:
    """Run a Triton with the model, and a host in front of it."""
    key, limited = (f"sk-{secrets.token_hex(16)}" for _ in range(2))
    models = folder / "models"
    models.mkdir()
    for each in (*(HERE / "models").iterdir(), EMBEDDER):
        (models / each.name).symlink_to(each, target_is_directory=True)  # its code is looked for from where it is
    with EmbeddedTriton(models) as triton:
        config = folder / "host.toml"
        config.write_text(_settings(triton.grpc_url, key, limited, cors_origins), encoding="utf-8")
        with Running("serve", "--config", str(config), "--json") as host:
            yield Shop(json.loads(host.line())["url"], key, limited)


def _settings(triton: str, key: str, limited: str, origins: Sequence[str]) -> str:
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in (key, limited)]
    pools = [
        f"""
        [[pools]]
        id = "{grammar}"
        adapter = "triton"
        chat_template = {json.dumps(str(HERE / "templates" / f"{grammar}.jinja"))}
        default_max_tokens = 6000
        served_as = {{ {MODEL} = "{name_of(grammar)}" }}
        replicas = [{{ id = "r0", url = "{triton}" }}]
        """
        for grammar in GRAMMARS
    ]
    return f"""
    [log]
    level = "error"
    [server]
    port = 0
    cors_origins = {json.dumps(list(origins))}
    api_keys = [
      {{ name = "own", sha256 = "{digests[0]}", admin = true }},
      {{ name = "limited", sha256 = "{digests[1]}", requests_per_minute = 1 }},
    ]
    {"".join(pools)}
    """


def name_of(grammar: str) -> str:
    return MODEL if grammar == GRAMMARS[0] else f"{MODEL}-{grammar}"


def needs_client(name: str) -> pytest.MarkDecorator:
    """Mark tests that run one of the programs of `scripts/real_clients.py`."""
    how = f"needs {name} {CLIENTS[name].version}: python scripts/real_clients.py {name}, or make real-clients"
    return pytest.mark.skipif(not is_made(name), reason=how)


def program(client: str, name: str = "python") -> str:
    """Return a program of a client's environment."""
    return str(environment_of(client) / "venv" / "bin" / name)


def drive(client: str, driver: str, *arguments: str, env: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Run a driver in the client's environment, and return what it found, by what it did."""
    if driver.endswith(".mjs"):
        # Modules are looked for beside the program that wants them.
        shutil.copy(HERE / "drivers" / driver, folder)
        (folder / "node_modules").symlink_to(environment_of(client) / "node_modules")
        command = ["node", str(folder / driver)]
    else:
        command = [program(client), str(HERE / "drivers" / driver)]
    out = run(*command, *arguments, env=env, folder=folder)
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
    return {what: found for line in lines for what, found in line.items()}


def run(*command: str, env: Mapping[str, str], folder: Path) -> str:
    """Run a program to its good end and return what it wrote."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_RUNS_S, env=dict(env), cwd=folder)
    assert ended.returncode == 0, f"{command[0]} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr[-4000:]}"
    return ended.stdout
