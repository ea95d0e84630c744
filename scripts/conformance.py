"""Run the conformance suite on the adapters of this repository and bring the table in docs/ up to date.

The Triton adapter runs against a real server, which is started for it. Reports go to reports/conformance/.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports" / "conformance"
EXAMPLE = ROOT / "examples" / "minimal_adapter"

RUNS = {
    "triton": ["--adapter", "triton", "--option", "kill=true"],
    "triton-grpcio": ["--adapter", "triton", "--option", "kill=true", "--option", "transport=grpcio"],
    "triton-http": ["--adapter", "triton", "--option", "kill=true", "--option", "protocol=http"],
    "openai": ["--adapter", "openai"],
    "openai-llama-cpp": ["--adapter", "openai", "--option", "family=llama.cpp"],
    "openai-dynamo": ["--adapter", "openai", "--option", "family=dynamo"],
    "openai-trtllm": ["--adapter", "openai", "--option", "family=trtllm"],
    "openai-triton": ["--adapter", "openai", "--option", "family=triton"],
    "mock-asyncio": ["--adapter", "mock", "--backend", "asyncio"],
    "mock-trio": ["--adapter", "mock", "--backend", "trio"],
    "parrot": ["--harness", "test_conformance:ParrotHarness"],
    "reference": ["--harness", "conformance_tests.reference:ReferenceHarness"],
}
"""Arguments of the suite, by the folder of the report."""

RUN_TIMEOUT_S = 600


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = environment_with_example(Path(folder))
        failed = [name for name, arguments in RUNS.items() if not runs(name, arguments, environment)]
    if missing := [name for name in RUNS if not (REPORTS / name / "report.json").exists()]:
        print(f"no report of {', '.join(missing)}: the table stays as it is", file=sys.stderr)
        return 1
    reports = [str(REPORTS / name / "report.json") for name in RUNS]
    table = [sys.executable, "-m", "conformance_tests", "matrix", *reports, "--into", str(ROOT / "docs/conformance.md")]
    subprocess.run(table, cwd=ROOT, check=True)
    if failed:
        print(f"not conformant: {', '.join(failed)}; see {REPORTS.relative_to(ROOT)}", file=sys.stderr)
    return 1 if failed else 0


def runs(name: str, arguments: list[str], environment: dict[str, str]) -> bool:
    """Run the suite once; true when the verdict is a good one."""
    print(f"conformance of {name} …", flush=True)
    # Not `--quiet`: where a run is slow, as each restart of a real server is, it is seen how far it has come.
    command = [sys.executable, "-m", "conformance_tests", *arguments, "--report", str(REPORTS / name)]
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, timeout=RUN_TIMEOUT_S).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"conformance of {name} was not done within {RUN_TIMEOUT_S} s", file=sys.stderr)
        return False


def environment_with_example(folder: Path) -> dict[str, str]:
    """Return an environment in which the example is found as if it had been installed."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"parrot_adapter-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    entries = [f"{name} = {target}" for name, target in project["entry-points"]["worker_adapter"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[worker_adapter]", *entries, ""]), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(EXAMPLE), str(ROOT)])}


if __name__ == "__main__":
    sys.exit(main())
