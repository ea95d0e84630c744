"""Real engines with OpenAI's HTTP API: the suite, and the program, run against them.

llama.cpp's server is installed by the test. transformers and vLLM take gigabytes: their environments have to be named.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from foreign_servers import make

from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.outcome import Status
from openai_adapter.conformance import OpenAIHarness

pytestmark = pytest.mark.long

SERVERS = Path(__file__).parent / "servers"
ENGINE_VARIABLE = "WORKER_ADAPTER_OPENAI_ENGINE"
"""`URL MODEL [HONOURS]` of an engine that runs already, as a vLLM or a `transformers serve`."""


@contextmanager
def llama_cpp() -> Iterator[str]:
    """Run llama.cpp's server with a model of a few kB; yields its URL."""
    python = make("llama-cpp")
    with subprocess.Popen(
        [str(python), str(SERVERS / "llama_cpp.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            yield next(line.strip() for line in lines if line.startswith("http://"))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with llama_cpp() as started:
        yield started


def not_fine(harness: OpenAIHarness) -> dict[str, str]:
    requirements = {requirement.id: requirement for requirement in load().requirements}
    outcomes = Session(harness).run_all(load_suite().values(), requirements, lambda outcome: None)
    fine = (Status.PASSED, Status.NOT_APPLICABLE, Status.SKIPPED)
    return {outcome.requirement: str(outcome) for outcome in outcomes if outcome.status not in fine}


@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-013", "ORCH-3067-014")
def test_the_adapter_is_conformant_on_llama_cpp(url: str) -> None:
    harness = OpenAIHarness(
        url=url, model="tiny", honours="seed,logprobs,response_format", long_tokens="8000", settle_s="0.5"
    )

    assert not_fine(harness) == {}


@pytest.mark.spec("ORCH-3067-014")
def test_doctor_tells_version_and_slots_of_llama_cpp(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker_adapter", "doctor", url, "--adapter", "openai"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "llama.cpp" in ended.stdout
    assert "tiny" in ended.stdout


@pytest.mark.spec("ORCH-3067-001")
def test_the_adapter_is_conformant_on_an_engine_of_yours() -> None:
    named = os.environ.get(ENGINE_VARIABLE, "").split()
    if len(named) < 2:
        pytest.skip(
            f"set {ENGINE_VARIABLE}='URL MODEL [HONOURS]' to an engine that runs, as a vLLM or transformers serve"
        )
    honours = named[2] if len(named) > 2 else ""

    assert not_fine(OpenAIHarness(url=named[0], model=named[1], honours=honours)) == {}
