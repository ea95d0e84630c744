"""`worker-adapter check`."""

from __future__ import annotations

import msgspec

from worker_adapter.engine_options import JsonOption
from worker_adapter.host_options import ConfigOption, load_host_settings, server_is_missing
from worker_adapter.installed import installed_plugins
from worker_adapter.reporting import write_json
from worker_adapter.terminal import print_fields, print_table


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether a host could serve with these settings, without serving: every fault with its file and line."""
    try:
        from orchestrator.check import check_settings
    except ImportError as exc:
        raise server_is_missing(exc) from exc

    summary = check_settings(load_host_settings(config), installed_plugins())
    if as_json:
        write_json(msgspec.json.encode(summary))
        return
    print_fields([
        ("settings", summary.path or "the environment alone"),
        ("listens on", f"{summary.host} port {summary.port}"),
        ("access", summary.access),
    ])  # fmt: skip
    rows = [(each.pool_id, each.replica_id, each.adapter, each.options) for each in summary.replicas]
    print_table(("POOL", "REPLICA", "ADAPTER", "OPTIONS"), rows)
