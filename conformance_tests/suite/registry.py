"""ORCH-3054: how an adapter is found."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

from adapter_api import AdapterPlugin, ConfigurationError, PluginBroken, PluginReport, PluginStatus, WorkerAdapter
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, Failed, Skipped, expect
from conformance_tests.subject import Subject

HEAVY = frozenset(
    "numpy grpc tritonclient google.protobuf torch tensorflow jax transformers tokenizers vllm httpx httpcore aiohttp "
    "requests urllib3 fastapi starlette uvicorn flask django PIL cv2 pandas scipy openai websockets sqlalchemy".split()
)
"""What only running tasks needs."""

IMPORT_TIMEOUT_S = 60.0


def _report(subject: Subject) -> PluginReport:
    """Return what became of the harness's plugin."""
    name = subject.harness.plugin
    if name is None:
        raise Skipped("the harness names no plugin: Harness.plugin is None")
    for report in subject.harness.load_plugins().reports:
        if report.name == name or any(record.name == name for record in report.adapters):
            return report
    raise Failed(f"no entry point of the group worker_adapter provides the adapter {name!r}; is its package installed?")


def _record(subject: Subject) -> AdapterPlugin:
    """Return the plugin's record of the adapter; blocks the check when there is none."""
    try:
        report = _report(subject)
    except Failed as failed:
        raise Blocked(failed.reason) from None
    for record in report.adapters:
        if record.name == subject.harness.plugin:
            return record
    raise Blocked(f"the plugin {report.name!r} gives no record of {subject.harness.plugin!r}: {report.reason}")


@requirement("ORCH-3054-001")
async def test_the_adapter_is_found_by_entry_point(subject: Subject) -> None:
    """Load the plugins and look for the adapter."""
    report = _report(subject)

    bad = report.status in (PluginStatus.BROKEN, PluginStatus.CONFLICT, PluginStatus.BLOCKED)
    expect(not bad, f"the plugin {report.name!r} is {report.status}: {report.reason}")
    names = [record.name for record in report.adapters]
    expect(subject.harness.plugin in names, f"the plugin {report.name!r} registers {names or 'no adapter'}")


@requirement("ORCH-3054-002")
async def test_the_plugin_is_cheap_to_import(subject: Subject) -> None:
    """Import the plugin's module in a process of its own and look at what came with it."""
    target = _report(subject).target.partition(":")[0]
    heavy = _heavy_imports(target)

    expect(not heavy, f"importing {target} imports {', '.join(heavy)}; name such modules by import string")


@functools.cache
def _heavy_imports(target: str) -> tuple[str, ...]:
    program = (
        "import importlib, json, sys\n"
        "import adapter_api\n"
        "before = set(sys.modules)\n"
        "importlib.import_module(sys.argv[1])\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run(
        [sys.executable, "-c", program, target],
        capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, env=environment,
    )  # fmt: skip
    if ran.returncode:
        raise Blocked(f"{target} cannot be imported in a process of its own: {ran.stderr.strip().splitlines()[-1:]}")
    imported: list[str] = json.loads(ran.stdout.splitlines()[-1])
    return tuple(sorted(HEAVY & set(imported)))


@requirement("ORCH-3054-003")
async def test_the_record_names_an_adapter(subject: Subject) -> None:
    """Load what the record names as its adapter."""
    record = _record(subject)
    try:
        named = record.load("adapter")
    except Exception as exc:
        raise Failed(f"{record.adapter} cannot be loaded: {exc}") from exc

    right = isinstance(named, type) and issubclass(named, WorkerAdapter)
    expect(right, f"{record.adapter} is {named!r}, not a class that derives from WorkerAdapter")


@requirement("ORCH-3054-004")
async def test_the_record_declares_a_served_api_version(subject: Subject) -> None:
    """Load the plugins and look whether the host serves the record's version of the contract."""
    _record(subject)
    report = _report(subject)

    expect(report.status is not PluginStatus.INCOMPATIBLE, f"the plugin is {report.status}: {report.reason}")


@requirement("ORCH-3054-005")
async def test_the_record_lists_every_capability(subject: Subject) -> None:
    """Compare the record's capabilities with those that props declares."""
    unlisted = sorted(subject.props.capabilities - _record(subject).capabilities)

    expect(not unlisted, f"props declares {', '.join(unlisted)}, and the plugin's record does not list it")


@requirement("ORCH-3054-006")
async def test_an_unknown_option_is_refused_by_name(subject: Subject) -> None:
    """Create an adapter with an option that does not exist."""
    record = _record(subject)
    try:
        record.create({"no_such_option": "1"})
    except PluginBroken as exc:
        raise Blocked(f"the record names no adapter that could be created: {exc}") from exc
    except ConfigurationError as exc:
        expect("no_such_option" in str(exc), f"the refusal of an unknown option does not name it: {exc}")
        return
    except Exception as exc:
        raise Failed(f"an unknown option raised {type(exc).__name__}, not ConfigurationError: {exc}") from exc
    raise Failed("an adapter was created with an option that does not exist")


@requirement("ORCH-3054-007")
async def test_the_record_has_a_summary(subject: Subject) -> None:
    """Read the record's summary."""
    expect(_record(subject).summary.strip(), "the plugin's record has an empty summary")
