"""Values that do not stand in the file: `{ secret_env = "VARIABLE" }` and `{ secret_file = "path" }`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapter_api import ConfigurationError

_NAMES_OF_SECRETS = ("token", "password", "secret", "api_key", "authorization", "credential")
SHORTEST_SECRET = 4
"""Shorter ones are not hidden from logs: hiding every `1` would tell more than it hides."""


def fetch_secrets(value: Any, environ: Mapping[str, str], found: set[str], name: str = "") -> Any:
    """Return `value` with every reference to a secret replaced by the secret; what is secret is added to `found`.

    Raises:
        ConfigurationError: A variable is not set, or a file cannot be read.
    """
    if isinstance(value, dict):
        if set(value) == {"secret_env"}:
            return _keep(_from_variable(str(value["secret_env"]), environ), found)
        if set(value) == {"secret_file"}:
            return _keep(_from_file(str(value["secret_file"])), found)
        return {key: fetch_secrets(each, environ, found, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [fetch_secrets(each, environ, found, name) for each in value]
    if isinstance(value, str) and any(word in name.lower() for word in _NAMES_OF_SECRETS):
        return _keep(value, found)
    return value


def _from_variable(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name):
        raise ConfigurationError(f"the settings take a secret from environment variable {name}, which is not set")
    return environ[name]


def _from_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"the settings take a secret from file {path}, which cannot be read: {reason}"
        ) from exc


def _keep(secret: str, found: set[str]) -> str:
    if len(secret) >= SHORTEST_SECRET:
        found.add(secret)
    return secret
