"""Run every static check and say which failed: `make check`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"

CHECKS = {
    "format": ["-m", "ruff", "format", "--check", "--quiet", "."],
    "lint": ["-m", "ruff", "check", "--quiet", "."],
    "types": ["-m", "mypy"],
    "layering": ["-c", _LINT_IMPORTS],
    "specs": ["-m", "conformance_tests.catalog", "--check", "--specs", "specs"],
    "requirements have tests": ["scripts/check_specs.py"],
    "ways are fresh": ["scripts/ways.py", "--check"],
    "fields of the OpenAI face are fresh": ["scripts/openai_fields.py", "--check"],
    "grammars of tool calls are fresh": ["scripts/tool_grammars.py", "--check"],
    "schemas are fresh": ["-m", "adapter_api.schemas", "--check"],
    "docs and layout": ["-m", "pytest", "--quiet", "--no-header", "-m", "not live", "tests/project"],
}
"""Arguments of the environment's own python, by what they check."""


def main() -> int:
    failed = [name for name, arguments in CHECKS.items() if not passes(name, arguments)]
    if failed:
        print(f"make check: {', '.join(failed)} failed", file=sys.stderr)
    return 1 if failed else 0


def passes(name: str, arguments: list[str]) -> bool:
    """Run one check; its output is shown only when it fails."""
    began = time.monotonic()
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    passed = ran.returncode == 0
    print(f"{'ok  ' if passed else 'FAIL'}  {name} ({time.monotonic() - began:.1f} s)", flush=True)
    if not passed:
        print(ran.stdout + ran.stderr, flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
