"""`worker-adapter doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from adapter_api import CancelMode, Capability, EngineProps, ModelProps, WorkerAdapter
from worker_adapter.candidates import examine_each
from worker_adapter.checkup import Checkup, Note, examine
from worker_adapter.engine_command import ChosenEngine, engine_command, tell
from worker_adapter.engine_options import JsonOption
from worker_adapter.exit_codes import ExitCode
from worker_adapter.terminal import Style, one_line, print_fields, print_table, styled

_PROMISES = (
    ("STREAM", Capability.STREAMING),
    ("STOP", Capability.STOP),
    ("SEED", Capability.SEED),
    ("USAGE", Capability.USAGE),
    ("FINISH", Capability.FINISH_REASON),
    ("LOGPROBS", Capability.LOGPROBS),
    ("GUIDED", Capability.RESPONSE_FORMAT),
    ("IMAGES", Capability.IMAGES),
)
_NAMED_AT_MOST = 20
"""Models that are named beside what is found of all of them."""
_YES, _NO, _UNKNOWN = "✓", "–", "?"
_CANCELS = {"hard": "hard", "on_next_chunk": "next chunk", "client_only": _NO, None: _UNKNOWN}
_STYLES: dict[str, Style] = {"error": "red", "warning": "yellow", "hint": "cyan"}


@engine_command
def doctor(
    engine: ChosenEngine,
    target: Annotated[str | None, typer.Argument(metavar="[URL]", help="As --url.", show_default=False)] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Run one small inference too, where the adapter has one to run.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Say what an engine is, what its models can do, what is wrong and what to do about it. Sends no work.

    Exits 0 when nothing is wrong, 1 when something is (hints and warnings do not count), 3 when it cannot be reached.
    """
    if target is not None:
        engine.url = target
    found = examine_each(engine, canary=canary) if engine.claimants else _examine(engine, canary=canary)
    tell(found, _print, as_json=as_json)
    if not found.reachable:
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED if found.has_errors else ExitCode.DONE


def _examine(engine: ChosenEngine, *, canary: bool) -> Checkup:
    where = engine.url or _url_in_settings(engine.adapter)
    http = engine.speaks_http
    return engine.ask(lambda opened: examine(opened, url=where, canary=canary, http=http))


def _url_in_settings(adapter: WorkerAdapter) -> str | None:
    # Adapters that are chosen by URL have it in their settings, whatever variable it came from.
    url = getattr(getattr(adapter, "settings", None), "url", None)
    return url if isinstance(url, str) else None


def _print(found: Checkup) -> None:
    health, props = found.health, found.props
    fields = [
        ("address", found.url or ""),
        ("adapter", found.adapter),
        ("engine", (props.engine_version if props else None) or ""),
        ("transport", (props.transport if props else None) or ""),
        ("state", f"{health.state.value}, answered in {health.latency_s * 1e3:.1f} ms"),
        ("detail", health.detail),
        ("canary", "worked" if health.canary and not found.has_errors else ""),
    ]
    if not found.reachable:
        fields = [(name, health.state.value if name == "state" else value) for name, value in fields]
    print_fields([(name, value) for name, value in fields if value])
    if props is not None and props.models:
        _print_models(props)
    _print_notes(found.notes)


def _print_models(props: EngineProps) -> None:
    print()
    headings = ("MODEL", "READY", "DIALECT", "CANCEL", *(heading for heading, _ in _PROMISES))
    # Of thousands, those of which only the name is known tell nothing here.
    told = [model for model in props.models if model.capabilities or not model.ready]
    print_table(headings, [_row(model) for model in told], {_YES: "green"})
    if len(told) < len(props.models):
        print(f"and {len(props.models) - len(told)} more, which `worker-adapter models` lists")
    speaking = [model for model in props.models if model.dialect is not None and model.dialect_reason]
    if speaking:
        print()
        print_fields([(model.name, f"speaks {model.dialect}: {model.dialect_reason}") for model in speaking])


def _row(model: ModelProps) -> tuple[str, ...]:
    return (
        model.name,
        {True: _YES, False: _NO, None: _UNKNOWN}[model.ready],
        model.dialect or _NO,
        _CANCELS[_cancel_mode(model)],
        *(_promise(model, capability) for _, capability in _PROMISES),
    )


def _promise(model: ModelProps, capability: Capability) -> str:
    if capability in model.capabilities:
        return _YES
    return _UNKNOWN if capability in model.uncertain else _NO


def _print_notes(notes: tuple[Note, ...]) -> None:
    print()
    if not notes:
        print("nothing is wrong")
        return
    # What holds for several models is said once.
    alike: dict[Note, list[str]] = {}
    for note in notes:
        alike.setdefault(msgspec.structs.replace(note, model=None), []).extend([note.model] if note.model else [])
    for note, models in alike.items():
        more = f" and {len(models) - _NAMED_AT_MOST} more" if len(models) > _NAMED_AT_MOST else ""
        subject = f"{', '.join(models[:_NAMED_AT_MOST])}{more}: " if models else ""
        label = styled(f"{note.severity:<7}", _STYLES[note.severity], sys.stdout)
        print(f"{label}  {one_line(f'{subject}{note.message}')}")
        if note.advice:
            print(f"         → {one_line(note.advice)}")
    counts = {severity: sum(note.severity == severity for note in alike) for severity in _STYLES}
    print()
    print(", ".join(f"{n} {severity}{'' if n == 1 else 's'}" for severity, n in counts.items()))


def _cancel_mode(model: ModelProps) -> CancelMode | None:
    """Return what a cancel can do: an adapter that declares hard cancels has told, with or without a mode."""
    if model.cancel_mode is None and Capability.CANCEL_HARD in model.capabilities:
        return "hard"
    return model.cancel_mode
