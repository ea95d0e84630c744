"""What it costs to have the kit at hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("httptools", "http.client", "urllib.request", "httpx", "aiohttp", "uvloop", "numpy", "grpc")


@pytest.mark.spec("ORCH-3068-022")
@pytest.mark.parametrize("module", ["adapter_kit.http", "adapter_kit.sse"])
def test_importing_loads_no_more_than_the_contract_does(module: str) -> None:
    program = f"""if True:
        import sys, asyncio, pydantic, adapter_api
        before = set(sys.modules)
        import {module}
        print(*sorted((set(sys.modules) - before) & set({HEAVY!r})))"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout.split() == []
