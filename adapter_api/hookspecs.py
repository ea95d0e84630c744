"""The hooks of the pluggy project `worker_adapter`, in the order of their life. All are synchronous and few.

A plugin is a module named by an entry point of group `worker_adapter`:

    # pyproject.toml of the plugin's own distribution
    [project.entry-points.worker_adapter]
    acme = "acme_adapter.plugin"

    # acme_adapter/plugin.py: keep it cheap, name heavy things by import string
    from adapter_api import AdapterPlugin, hookimpl

    @hookimpl
    def worker_adapter_register():
        return AdapterPlugin(name="acme", adapter="acme_adapter.adapter:AcmeAdapter", api_version="1.0")

An exception in a hook is logged and reported; it stops neither the task nor another plugin.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from adapter_api.events import Started, Terminal
    from adapter_api.health import HealthReport
    from adapter_api.records import AdapterPlugin
    from adapter_api.task import TaskRequest

PROJECT = "worker_adapter"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def worker_adapter_register() -> AdapterPlugin | list[AdapterPlugin] | None:
    """Return the adapters this plugin provides. Called once per plugin when plugins are loaded; do nothing heavy."""


@hookspec
def worker_adapter_collectors() -> Iterable[Collector] | None:
    """Return prometheus collectors to export beside the host's. Called once, when the host builds its registry."""


@hookspec
def worker_adapter_task_started(task: TaskRequest, started: Started) -> None:
    """Called when a task's `started` is passed on to its submitter. Runs in the event loop: return at once."""


@hookspec
def worker_adapter_task_ended(task: TaskRequest, terminal: Terminal) -> None:
    """Called once per task, with its `End` or `Error`. Runs in the event loop: return at once."""


@hookspec
def worker_adapter_health_changed(pool_id: str, replica_id: str, report: HealthReport) -> None:
    """Called when a replica's state is no longer what it was. Runs in the event loop: return at once."""
