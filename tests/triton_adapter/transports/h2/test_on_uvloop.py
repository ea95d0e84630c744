"""Our own HTTP/2 on another event loop than asyncio's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

pytestmark = [pytest.mark.long, pytest.mark.spec("ORCH-3072-001")]


def test_calls_and_violations_come_to_the_same_on_uvloop() -> None:
    pytest.importorskip("uvloop", reason="needs uvloop: pip install -e '.[server]'")
    modules = [str(HERE / name) for name in ("test_calls.py", "test_violations.py")]

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *modules],
        env=os.environ | {"TEST_LOOP": "uvloop"}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
    assert "passed" in ran.stdout
