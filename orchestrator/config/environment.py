"""Reading settings from environment variables.

    ORCHD_HOST, ORCHD_PORT, ORCHD_LOG_LEVEL             the settings of those names
    ORCHD_<SECTION>__<KEY>                              any other one, as in ORCHD_SERVER__HEARTBEAT_S=5; lists as JSON
    ORCHD_<ADAPTER>_URL, _METRICS_URL, _POOL, _REPLICA  a replica of that adapter, as in ORCHD_TRITON_URL
    ORCHD_<ADAPTER>_OPTIONS                             the adapter's other settings, in JSON
    <ADAPTER>_ENABLED=true                              the same, with everything else read by the adapter itself

What a variable says wins over the file.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.config.toml_lines import Path

PREFIX = "ORCHD_"
CONFIG_VARIABLE = "ORCHD_CONFIG"
_SHORT: Mapping[str, Path] = {
    "ORCHD_HOST": ("server", "host"),
    "ORCHD_PORT": ("server", "port"),
    "ORCHD_LOG_LEVEL": ("log", "level"),
}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def overlay(
    settings: dict[str, Any],
    environ: Mapping[str, str],
    adapters: Collection[str],
    sections: Collection[str],
    faults: list[str],
) -> dict[Path, str]:
    """Write the variables' values into `settings`; returns which variable set each path.

    What is wrong with a variable is added to `faults`: of one with our prefix that names no setting, the nearest ones.
    """
    origins: dict[Path, str] = {}
    known = {CONFIG_VARIABLE, *_SHORT}
    for adapter in adapters:
        known |= _adapter_variables(adapter)
        _overlay_adapter(settings, environ, adapter, origins, faults)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE:
            continue
        path = _SHORT.get(name) or _section_path(name, sections)
        if path is not None:
            if _set(settings, path, _value(environ[name]), name, faults):
                origins[path] = name
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; see `worker-adapter serve --help`"
            faults.append(f"environment variable {name} names no setting{hint}")
    return origins


def _adapter_variables(adapter: str) -> set[str]:
    stem = adapter.upper().replace("-", "_")
    return {f"{PREFIX}{stem}_{what}" for what in ("URL", "METRICS_URL", "OPTIONS", "POOL", "REPLICA")}


def _overlay_adapter(
    settings: dict[str, Any], environ: Mapping[str, str], adapter: str, origins: dict[Path, str], faults: list[str]
) -> None:
    stem = adapter.upper().replace("-", "_")
    url = environ.get(f"{PREFIX}{stem}_URL")
    if not url and not _is_true(environ, f"{stem}_ENABLED", faults):
        return
    pool_id = environ.get(f"{PREFIX}{stem}_POOL") or "default"
    replica_id = environ.get(f"{PREFIX}{stem}_REPLICA") or "r0"
    pools = settings.setdefault("pools", [])
    if not isinstance(pools, list):
        return  # the file has something else there, which validation tells with its line; so below
    pool = _named(pools, pool_id, {"id": pool_id, "adapter": adapter, "replicas": []})
    replicas = pool.setdefault("replicas", [])
    if not isinstance(replicas, list):
        return
    replica = _named(replicas, replica_id, {"id": replica_id, "adapter": adapter})
    variable = f"{PREFIX}{stem}_URL" if url else f"{stem}_ENABLED"
    if (taken := replica.get("adapter") or pool.get("adapter") or adapter) != adapter:
        faults.append(
            f"environment variable {variable} means replica {replica_id!r} of pool {pool_id!r}, which is the {taken} "
            f"adapter's: name another one with {PREFIX}{stem}_REPLICA or {PREFIX}{stem}_POOL"
        )
        return
    replica.setdefault("adapter", adapter)
    options = replica.setdefault("options", {})
    if not isinstance(options, dict):
        return
    if given := environ.get(f"{PREFIX}{stem}_OPTIONS"):
        more = _value(given)
        if not isinstance(more, dict):
            faults.append(f'environment variable {PREFIX}{stem}_OPTIONS is no JSON object like {{"timeout_s": 5}}')
            return
        options.update(more)
    if url:
        options["url"] = url
        replica.pop("url", None)
    if metrics_url := environ.get(f"{PREFIX}{stem}_METRICS_URL"):
        replica["metrics_url"] = metrics_url
    origins["pools", pools.index(pool), "replicas", pool["replicas"].index(replica)] = variable


def _named(items: list[Any], id: str, new: dict[str, Any]) -> dict[str, Any]:
    for item in items:
        if isinstance(item, dict) and item.get("id", "default") == id:
            return item
    items.append(new)
    return new


def _is_true(environ: Mapping[str, str], name: str, faults: list[str]) -> bool:
    value = environ.get(name, "").strip().lower()
    if value in _TRUE:
        return True
    if value not in _FALSE:
        faults.append(f"environment variable {name} is neither true nor false")
    return False


def _section_path(name: str, sections: Collection[str]) -> Path | None:
    parts = name.removeprefix(PREFIX).lower().split("__")
    return tuple(parts) if len(parts) > 1 and parts[0] in sections and all(parts) else None


def _value(text: str) -> Any:
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _set(settings: dict[str, Any], path: Path, value: Any, variable: str, faults: list[str]) -> bool:
    """Write a variable's value where it belongs; returns whether there is such a place."""
    table: Any = settings
    for step in path[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            faults.append(f"environment variable {variable} names no setting: {step!r} is no table")
            return False
    table[path[-1]] = value
    return True
