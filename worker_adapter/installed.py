"""The plugins of this installation, loaded once."""

from __future__ import annotations

from functools import cache

from adapter_api import PluginHost, load_plugins


@cache
def installed_plugins() -> PluginHost:
    """Return the host of every plugin found by entry point."""
    return load_plugins()
