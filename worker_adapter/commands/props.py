"""`worker-adapter props`."""

from __future__ import annotations

from adapter_api import EngineProps
from worker_adapter.commands.models import print_models
from worker_adapter.engine_command import ChosenEngine, engine_command, tell
from worker_adapter.engine_options import JsonOption
from worker_adapter.terminal import print_fields


@engine_command
def props(
    engine: ChosenEngine,
    as_json: JsonOption = False,
) -> None:
    """Say what an engine is and what it can do. What it does not tell is left out."""
    tell(engine.ask(lambda opened: opened.props()), _print, as_json=as_json)


def _print(found: EngineProps) -> None:
    slots = "" if found.slots_total is None else f"{found.slots_total}, {found.slots_free} free"
    fields = [
        ("engine", found.engine),
        ("version", found.engine_version or ""),
        ("transport", found.transport or ""),
        ("capabilities", ", ".join(sorted(found.capabilities))),
        ("slots", slots),
        ("max batch size", "" if found.max_batch_size is None else str(found.max_batch_size)),
        ("extensions", ", ".join(found.extensions)),
    ]
    print_fields([(name, value) for name, value in fields if value])
    if found.models:
        print()
        print_models(found.models)
