"""`worker-adapter props`."""

from __future__ import annotations

import msgspec

from adapter_api import EngineProps
from worker_adapter.commands.models import print_models
from worker_adapter.engine_options import (
    AdapterOption,
    ControlTimeoutOption,
    JsonOption,
    SettingsOption,
    UrlOption,
    make_adapter,
    with_adapter,
)
from worker_adapter.reporting import write_json
from worker_adapter.terminal import print_fields


def props(
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    timeout: ControlTimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an engine is and what it can do. What it does not tell is left out."""
    found = with_adapter(make_adapter(url, adapter, option, control_timeout_s=timeout), lambda opened: opened.props())
    if as_json:
        write_json(msgspec.json.encode(found, order="deterministic"))
    else:
        _print(found)


def _print(found: EngineProps) -> None:
    slots = "" if found.slots_total is None else f"{found.slots_total}, {found.slots_free} free"
    fields = [
        ("engine", found.engine),
        ("version", found.engine_version or ""),
        ("capabilities", ", ".join(sorted(found.capabilities))),
        ("slots", slots),
        ("max batch size", "" if found.max_batch_size is None else str(found.max_batch_size)),
        ("extensions", ", ".join(found.extensions)),
    ]
    print_fields([(name, value) for name, value in fields if value])
    if found.models:
        print()
        print_models(found.models)
