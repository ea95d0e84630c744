"""Its registration fails."""

from __future__ import annotations

from adapter_api import AdapterPlugin, hookimpl


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    raise RuntimeError("no licence found")
