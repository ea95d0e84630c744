"""Values that do not stand in the file: `{ secret_env = "VARIABLE" }` and `{ secret_file = "path" }`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.toml_lines import Path as Place

_NAMES_OF_SECRETS = ("token", "password", "secret", "api_key", "authorization", "credential")
SHORTEST_SECRET = 4
"""Shorter ones are not hidden from logs: hiding every `1` would tell more than it hides."""


class Secrets:
    """Those of one set of settings."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.found: set[str] = set()
        self.lacking: dict[Place, str] = {}
        """Why a secret cannot be had, by where the settings ask for it."""

    def fetch(self, value: Any, place: Place = ()) -> Any:
        """Return `value`, which stands at `place`, with the secret in place of every reference to one; with an empty
        text where it cannot be had."""
        if isinstance(value, dict):
            if set(value) == {"secret_env"}:
                return self._from_variable(str(value["secret_env"]), place)
            if set(value) == {"secret_file"}:
                return self._from_file(str(value["secret_file"]), place)
            return {key: self.fetch(each, (*place, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self.fetch(each, (*place, index)) for index, each in enumerate(value)]
        name = next((step for step in reversed(place) if isinstance(step, str)), "")
        if isinstance(value, str) and any(word in name.lower() for word in _NAMES_OF_SECRETS):
            return self._keep(value)
        return value

    def _from_variable(self, name: str, place: Place) -> str:
        if not self._environ.get(name):
            self.lacking[place] = f"the secret is in environment variable {name}, which is not set"
            return ""
        return self._keep(self._environ[name])

    def _from_file(self, path: str, place: Place) -> str:
        try:
            return self._keep(Path(path).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
            self.lacking[place] = f"the secret is in file {path}, which cannot be read: {reason}"
            return ""

    def _keep(self, secret: str) -> str:
        if len(secret) >= SHORTEST_SECRET:
            self.found.add(secret)
        return secret
