"""Our own host's OpenAI face, as an engine like any other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openai_adapter.conformance import OpenAIHarness
from tests.openai_adapter.foreign.test_foreign_engines import not_fine
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.long

MOCK = """
[[pools]]
adapter = "mock"

[[pools.replicas]]
id = "r0"
options = { delay_s = 0.002 }
"""
TRITON = """
[[pools]]
adapter = "triton"

[[pools.replicas]]
id = "r0"
url = "%s"
"""


@contextmanager
def host(config: str, folder: Path) -> Iterator[str]:
    """Run a host; yields its URL."""
    file = folder / "orchestrator.toml"
    file.write_text(config)
    command = [sys.executable, "-u", "-m", "worker_adapter", "serve", "--config", str(file), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


@pytest.mark.spec("ORCH-3067-001")
def test_the_adapter_is_conformant_on_our_own_host(tmp_path: Path) -> None:
    with host(MOCK, tmp_path) as url:
        assert not_fine(OpenAIHarness(url=url, model="mock", honours="seed", settle_s="0.5")) == {}


@pytest.mark.live
@pytest.mark.spec("ORCH-3067-001")
def test_the_adapter_is_conformant_on_a_real_triton_behind_our_own_host(tmp_path: Path, triton: EmbeddedTriton) -> None:
    with host(TRITON % triton.grpc_url, tmp_path) as url:
        harness = OpenAIHarness(url=url, model="tinylm", honours="seed", long_tokens="2000", settle_s="1")

        assert not_fine(harness) == {}
