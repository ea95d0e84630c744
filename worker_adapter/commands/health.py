"""`worker-adapter health`."""

from __future__ import annotations

from typing import Annotated

import typer

from adapter_api import HealthReport, HealthState
from worker_adapter.engine_command import ChosenEngine, engine_command, tell
from worker_adapter.engine_options import JsonOption
from worker_adapter.exit_codes import ExitCode
from worker_adapter.terminal import print_fields, print_table


@engine_command
def health(
    engine: ChosenEngine,
    canary: Annotated[
        bool, typer.Option("--canary", help="Run one small inference too, where the adapter has one to run.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Say how an engine is. Exits 0 when it takes work, 1 when it does not, 3 when it cannot be reached."""
    report = engine.ask(lambda opened: opened.health(canary=canary))
    absent = _absent(report, getattr(getattr(engine.adapter, "settings", None), "model", None))
    tell(report, lambda told: _print(told, absent), as_json=as_json)
    return ExitCode.FAILED if absent and report.ready else _exit_code(report)


def _absent(report: HealthReport, model: object) -> str | None:
    """Return the model that was asked for, if the engine says that it is not ready."""
    said = [each.ready for each in report.models if each.name == model]
    return str(model) if said and not any(said) else None


def _print(report: HealthReport, absent: str | None) -> None:
    capacity = report.capacity
    fields = [
        ("state", report.state.value),
        ("live", "yes" if report.live else "no"),
        ("ready", f"no: {absent} is not" if absent and report.ready else "yes" if report.ready else "no"),
        ("answered in", f"{report.latency_s * 1e3:.1f} ms"),
        ("detail", report.detail),
        ("slots free", "" if capacity.slots_free is None else f"{capacity.slots_free} of {capacity.slots_total}"),
        ("queued", "" if capacity.queued is None else str(capacity.queued)),
    ]
    print_fields([(name, value) for name, value in fields if value])
    if report.models:
        print()
        print_table(
            ("MODEL", "READY", "VERSION", "REASON"),
            [
                (model.name, "yes" if model.ready else "no", model.version or "", model.reason or "")
                for model in report.models
            ],
            {"yes": "green", "no": "red"},
        )


def _exit_code(report: HealthReport) -> ExitCode:
    if report.state is HealthState.UNREACHABLE:
        return ExitCode.UNREACHABLE
    return ExitCode.DONE if report.ready else ExitCode.FAILED
