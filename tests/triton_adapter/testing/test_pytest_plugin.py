"""The fixture that pytest gets from the plugin, in a pytest of its own."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import triton_adapter.testing

PLUGIN = "triton_adapter.testing.pytest_plugin"
ROOT = Path(__file__).parents[3]


def run_pytest(tmp_path: Path, test: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", str(tmp_path)]
    # Without the other plugins of this environment, nor ours by its entry point.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment, check=False)


def test_the_fixture_is_a_running_server(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        "import http.client\n"
        "def test_it(fake_triton):\n"
        "    connection = http.client.HTTPConnection(fake_triton.http_proxy.address, timeout=5)\n"
        "    connection.request('GET', '/v2/health/live')\n"
        "    assert connection.getresponse().status == 200\n"
        "    connection.close()\n",
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_fixture_checks_what_was_expected(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path, "def test_it(fake_triton):\n    fake_triton.model('llama').expect(input='text_input', equals='Hi')\n"
    )

    assert "a request was expected, but none came" in done.stdout
    assert "1 error" in done.stdout


def test_the_plugin_loads_no_grpc_until_the_fixture_is_used() -> None:
    code = f"import sys, {PLUGIN}; print(sorted(set(sys.modules) & {{'grpc', 'numpy', 'google.protobuf'}}))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )

    assert done.stdout.strip() == "[]"


def test_pytest_finds_the_plugin_by_itself() -> None:
    found = {entry.value for entry in importlib.metadata.entry_points(group="pytest11")}

    assert PLUGIN in found


def test_every_public_name_can_be_imported() -> None:
    for name in triton_adapter.testing.__all__:
        assert getattr(triton_adapter.testing, name).__name__ == name
