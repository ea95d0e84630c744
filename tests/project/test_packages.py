"""What the packages offer, and what it costs to import them."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tests.project.repository import PACKAGES, ROOT

HEAVY = (
    "grpc", "numpy", "tritonclient", "google.protobuf", "fastapi", "starlette", "uvicorn", "httpx", "jinja2", "PIL",
    "prometheus_client", "opentelemetry", "rich", "typer", "structlog",
)  # fmt: skip
"""Packages that only those who use them shall pay for."""

CHEAP_MODULES = ("adapter_api", "adapter_api.mock_plugin", "openai_adapter.plugin", "triton_adapter.plugin")

RUNS_TASKS = ("asyncio", "anyio", "pydantic", "ssl")
"""What whoever runs tasks needs, and is slow enough that nobody else shall wait for it."""


@pytest.mark.parametrize("name", PACKAGES)
def test_what_a_package_offers_is_written_out(name: str) -> None:
    package = importlib.import_module(name)
    offered = getattr(package, "__all__", [])

    missing = [item for item in offered if not hasattr(package, item)]

    assert not missing, f"{name}.__all__ names what is not there"
    assert len(set(offered)) == len(offered), f"{name}.__all__ names something twice"
    assert set(offered) == imported_publicly(name), f"{name}/__init__.py imports more or less than __all__ offers"


def imported_publicly(package: str) -> set[str]:
    """The public names of ours that the package's `__init__` imports, at once or for type checkers."""
    module = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    conditional = [node for branch in module.body if isinstance(branch, ast.If) for node in branch.body]
    imports = (node for node in [*module.body, *conditional] if isinstance(node, ast.ImportFrom))
    ours = (node for node in imports if (node.module or "").partition(".")[0] in PACKAGES)
    return {name for node in ours for alias in node.names if not (name := alias.asname or alias.name).startswith("_")}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_what_it_is_and_that_it_is_typed(name: str) -> None:
    package = importlib.import_module(name)

    assert package.__doc__
    assert (ROOT / name / "py.typed").is_file()


@pytest.mark.parametrize("module", CHEAP_MODULES)
def test_importing_what_every_program_imports_loads_nothing_heavy(module: str) -> None:
    heavy = loaded_by(f"import {module}")

    assert not heavy


def test_finding_every_plugin_loads_nothing_heavy() -> None:
    heavy = loaded_by("from adapter_api import load_plugins; load_plugins().reports")

    assert not heavy


@pytest.mark.parametrize(
    "code",
    [
        *(f"import {module}" for module in CHEAP_MODULES),
        "from adapter_api import load_plugins; load_plugins().adapters",
        "import worker_adapter.cli",
        "from adapter_api import AdapterError, Error, HealthReport, Token, hookimpl",
    ],
)
def test_whoever_runs_no_task_does_not_wait_for_what_runs_them(code: str) -> None:
    assert not loaded_by(code, among=RUNS_TASKS)


def test_help_waits_for_no_command_and_for_nothing_that_only_commands_need() -> None:
    code = (
        "import contextlib, io\nfrom worker_adapter.cli import main\nsys.argv = ['worker-adapter', '--help']\n"
        "with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())): main()"
    )

    loaded = loaded_by(
        code, among=(*HEAVY, *RUNS_TASKS, "orchestrator", "conformance_tests", "worker_adapter.commands")
    )

    assert loaded == ["typer"]


def test_a_module_of_the_contract_is_there_once_the_package_is_imported() -> None:
    assert not loaded_by("import adapter_api; assert adapter_api.errors.AdapterError is adapter_api.AdapterError")


def loaded_by(code: str, *, among: tuple[str, ...] = HEAVY) -> list[str]:
    """The packages of `among` in a fresh interpreter's `sys.modules` after `code`."""
    program = f"import json, sys\n{code}\nprint(json.dumps([name for name in {among!r} if name in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    found: list[str] = json.loads(ran.stdout)
    return found


def test_our_adapters_are_entry_points_like_any_other() -> None:
    names = {entry.name: entry.value for entry in entry_points(group="worker_adapter")}

    assert names["mock"] == "adapter_api.mock_plugin"
    assert names["triton"] == "triton_adapter.plugin"
