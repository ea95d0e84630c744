"""Options of an adapter as people type them: `key=value`, with dots into groups."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from adapter_api.errors import ConfigurationError


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """Return the options by name: `tls.ca_file=ca.pem` is `{"tls": {"ca_file": "ca.pem"}}`.

    Values are text, for the settings class to convert; those that begin with `[` or `{` are JSON.

    Raises:
        ConfigurationError: One has no key or no `=`, comes twice, or is broken JSON. No value is ever repeated: it may
            be a token.
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigurationError("an option is KEY=VALUE, and one was given without a key or '='")
        _put(options, key, _value(key, value))
    return options


def _put(options: dict[str, Any], key: str, value: Any) -> None:
    *groups, name = key.split(".")
    for group in groups:
        options = options.setdefault(group, {})
        if not isinstance(options, dict):
            raise ConfigurationError(f"option {group!r} was given as a value and as a group")
    if name in options:
        raise ConfigurationError(f"option {key!r} was given twice")
    options[name] = value


def _value(key: str, text: str) -> Any:
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(f"option {key!r} looks like JSON but is not: {exc}") from None
