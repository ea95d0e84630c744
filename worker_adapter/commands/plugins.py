"""`worker-adapter plugins`."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import PluginReport, PluginStatus
from worker_adapter.engine_options import JsonOption
from worker_adapter.installed import installed_plugins
from worker_adapter.reporting import write_json
from worker_adapter.terminal import Style, note, print_table

_COLOURS: dict[str, Style] = {
    PluginStatus.LOADED: "green",
    PluginStatus.BROKEN: "red",
    PluginStatus.INCOMPATIBLE: "red",
    PluginStatus.CONFLICT: "yellow",
    PluginStatus.BLOCKED: "yellow",
}


def plugins(as_json: JsonOption = False) -> None:
    """List the installed plugins and what became of each. A broken one is listed with its reason; the others work."""
    reports = installed_plugins().reports
    if as_json:
        write_json(msgspec.json.encode({"plugins": reports}, order="deterministic"))
        return
    if not reports:
        note("no plugins are installed: an adapter's package registers itself under the entry point 'worker_adapter'")
        return
    print_table(("NAME", "STATUS", "VERSION", "ADAPTERS", "REASON"), [_row(report) for report in reports], _COLOURS)


def _row(report: PluginReport) -> tuple[Any, ...]:
    adapters = ", ".join(
        f"{adapter.name} ({', '.join(f'{scheme}://' for scheme in adapter.url_schemes)})"
        if adapter.url_schemes
        else adapter.name
        for adapter in report.adapters
    )
    version = f"{report.distribution} {report.version}" if report.distribution else ""
    return report.name, str(report.status), version, adapters, " ".join(report.reason.split())
