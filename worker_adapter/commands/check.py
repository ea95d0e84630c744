"""`worker-adapter check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import anyio
import msgspec
import typer

from adapter_api import ConfigurationError
from worker_adapter.engine_options import JsonOption
from worker_adapter.host_options import ConfigOption, load_host_settings, server_is_missing
from worker_adapter.installed import installed_plugins
from worker_adapter.reporting import write_json
from worker_adapter.terminal import print_fields, print_table

if TYPE_CHECKING:
    from orchestrator.check import PoolSummary


def check(
    config: ConfigOption = None,
    engines: Annotated[
        bool, typer.Option("--engines", help="Ask the engines, too: whether they answer and have what is named.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say whether a host could serve with these settings, without serving: every fault with its file and line."""
    try:
        from orchestrator.check import check_settings, engine_faults, faults_beside
        from orchestrator.config import InvalidSettings
    except ImportError as exc:
        raise server_is_missing(exc) from exc

    plugins = installed_plugins()
    try:
        loaded = load_host_settings(config)
    except InvalidSettings as exc:
        more = faults_beside(exc.fields, plugins)
        raise ConfigurationError("\n  ".join([exc.message, *more])) from exc
    summary = check_settings(loaded, plugins)
    if engines and (faults := anyio.run(engine_faults, loaded, plugins)):
        raise ConfigurationError("the engines are not as the settings say:\n  " + "\n  ".join(faults))
    if as_json:
        write_json(msgspec.json.encode(summary))
        return
    print_fields([
        ("settings", summary.path or "the environment alone"),
        ("listens on", f"{summary.host} port {summary.port}"),
        ("access", summary.access),
    ])  # fmt: skip
    print()
    pools = [(each.pool_id, *_traffic(each), ", ".join(each.models) or "all") for each in summary.pools]
    print_table(("POOL", "WEIGHT", "TRAFFIC", "MODELS"), pools)
    for each in summary.pools:
        if each.tool_calls is not None:
            print(f"\npool {each.pool_id}, told from the text of its models:")
            print_fields([("tool calls", each.tool_calls), ("thoughts", each.thoughts or "")])
    print()
    rows = [
        (each.pool_id, each.replica_id, each.adapter, each.options, _names(each.served_as)) for each in summary.replicas
    ]
    print_table(("POOL", "REPLICA", "ADAPTER", "OPTIONS", "SERVED AS"), rows)


def _traffic(pool: PoolSummary) -> tuple[str, str]:
    """Return a pool's weight, and what that comes to."""
    if pool.shadow_of is not None:
        return "", f"copies of {pool.shadow_percent:g} % of {pool.shadow_of}'s, shown to nobody"
    if not pool.weight:
        return "0", "none"
    return str(pool.weight), f"{pool.traffic_percent:.3g} % of what every pool serves"


def _names(served_as: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{own} as {' and '.join(names)}" for own, names in served_as.items()) or "-"
