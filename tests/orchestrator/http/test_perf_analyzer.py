"""perf_analyzer, the program that Triton's users measure with, against the v2 face of a host."""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.metadata import distribution
from pathlib import Path
from subprocess import PIPE, STDOUT

import anyio
import pytest

from tests.orchestrator.http.test_v2_config import in_front_of
from triton_adapter.embedded import EmbeddedTriton

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

from foreign_servers import make

pytestmark = [pytest.mark.anyio, pytest.mark.live, pytest.mark.long, pytest.mark.spec("ORCH-3074-011")]

_ENDS_WITHIN_S = 120.0


@pytest.fixture(scope="session")
def perf_analyzer() -> Path:
    try:
        python = make("perf-analyzer")
        ctypes.CDLL("libb64.so.0d")
    except (RuntimeError, OSError) as exc:
        pytest.skip(
            f"needs perf_analyzer: {sys.executable} scripts/foreign_servers.py perf-analyzer, and apt-get install "
            f"libb64-0d (it said: {exc})"
        )
    return python.with_name("perf_analyzer")


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library of CUDA that the program is linked to; the embedded server's wheel has it."""
    wheel = distribution("nvidia-pytriton")
    (library,) = [file for file in wheel.files or () if file.name.startswith("libcudart")]
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "libcudart.so.12").symlink_to(str(wheel.locate_file(library)))
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ("--concurrency-range", "4"),
        ("-b", "4", "--async", "--concurrency-range", "2"),
        ("--input-tensor-format", "json", "--output-tensor-format", "json", "-x", "1"),
        ("--request-rate-range", "50", "--request-distribution", "poisson"),
    ],
    ids=["concurrent", "batches", "json", "rate"],
)
async def test_perf_analyzer_measures_through_a_host(
    triton: EmbeddedTriton, perf_analyzer: Path, libraries: Path, options: tuple[str, ...]
) -> None:
    async with in_front_of(triton.grpc_url) as host:
        where = ("-m", "addsub", "-i", "http", "-u", host.base_url.netloc.decode())
        with anyio.fail_after(_ENDS_WITHIN_S):
            ended = await anyio.run_process(
                [str(perf_analyzer), *where, "--request-count", "60", *options],
                stdout=PIPE, stderr=STDOUT, check=False, env={"LD_LIBRARY_PATH": str(libraries)},
            )  # fmt: skip
        (told,) = (await host.get("/v2/models/addsub/stats")).json()["model_stats"]
    said = ended.stdout.decode()

    assert ended.returncode == 0, said
    client, server = said.partition("Server:")[::2]
    assert re.search(r"Request count: 60\b", client), said
    assert re.search(r"Successful request count: 60\b", server), said
    assert "Avg request latency" in server
    rows = 4 if "-b" in options else 1
    assert (told["inference_stats"]["fail"]["count"], told["inference_count"] % rows) == (0, 0)
    assert told["inference_stats"]["success"]["count"] >= 60
