"""Our own host's OpenAI face, as an engine like any other."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from openai_adapter.conformance import OpenAIHarness
from tests.openai_adapter.foreign.test_foreign_engines import not_fine

pytestmark = pytest.mark.long

CONFIG = """
[[pools]]
adapter = "mock"

[[pools.replicas]]
id = "r0"
options = { delay_s = 0.002 }
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A host with a mock behind it."""
    file: Path = tmp_path_factory.mktemp("host") / "orchestrator.toml"
    file.write_text(CONFIG)
    command = [sys.executable, "-u", "-m", "worker_adapter", "serve", "--config", str(file), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            found = next(
                word.rstrip(";") for line in lines for word in line.split() if "serving" in line and "http://" in word
            )
            # What it logs must not fill the pipe.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield found
        finally:
            process.kill()


@pytest.mark.spec("ORCH-3067-001")
def test_the_adapter_is_conformant_on_our_own_host(url: str) -> None:
    assert not_fine(OpenAIHarness(url=url, model="mock", honours="seed", settle_s="0.5")) == {}
