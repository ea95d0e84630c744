"""Settings of a serving host: `orchestrator.toml`, the environment, and where each value came from.

`load.py` joins file and environment, `toml_lines.py` finds the line of a key, `environment.py` reads the variables,
`secrets.py` fetches what must not stand in the file, `changes.py` knows what a reload cannot change.
"""

from orchestrator.config.changes import at_next_start, require_keys
from orchestrator.config.load import InvalidSettings, Loaded, load_settings
from orchestrator.config.server import (
    ApiKeySettings,
    HistorySettings,
    HostSettings,
    LimitSettings,
    LogSettings,
    ResponsesSettings,
    RetentionSettings,
    ServerSettings,
    TlsSettings,
    TracingSettings,
)

__all__ = [
    "ApiKeySettings",
    "HistorySettings",
    "HostSettings",
    "InvalidSettings",
    "LimitSettings",
    "Loaded",
    "LogSettings",
    "ResponsesSettings",
    "RetentionSettings",
    "ServerSettings",
    "TlsSettings",
    "TracingSettings",
    "at_next_start",
    "load_settings",
    "require_keys",
]
