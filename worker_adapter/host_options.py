"""Where a host's settings come from, the same for every command that needs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapter_api import ConfigurationError
from adapter_kit.installing import install_extra
from worker_adapter.installed import installed_plugins

if TYPE_CHECKING:
    from orchestrator.config import Loaded

DEFAULT_FILE = Path("orchestrator.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="ORCHD_CONFIG", show_default="orchestrator.toml, if it is there",
        help="The host's settings; the environment (ORCHD_…) wins over them.",
    ),
]  # fmt: skip


def load_host_settings(config: Path | None, more: Mapping[str, str] | None = None) -> Loaded:
    """Return the settings of `config`, or of `orchestrator.toml` here if there is one, and of the environment.

    Args:
        config: The file; it must exist when it is given.
        more: Variables that win over the environment's.

    Raises:
        ConfigurationError: They cannot be; the message says where. Or what serves is not installed.
    """
    try:
        from orchestrator.config import load_settings
    except ImportError as exc:
        raise server_is_missing(exc) from exc
    path = config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    adapters = [adapter.name for adapter in installed_plugins().adapters]
    return load_settings(path, {**os.environ, **(more or {})}, adapters=adapters)


def server_is_missing(exc: ImportError) -> ConfigurationError:
    """Return the error that says how to install what serves."""
    return ConfigurationError(f"serving needs {exc.name}, which is not installed: run `{install_extra('server')}`")
