"""Joining file and environment into settings, with every fault told by the place it stands at."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from adapter_api import ConfigurationError
from orchestrator.config import environment, toml_lines
from orchestrator.config.secrets import fetch_secrets
from orchestrator.config.server import HostSettings


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, the secrets among them (for the log's redaction), and the file they came from."""

    settings: HostSettings
    secrets: frozenset[str]
    path: Path | None

    def __repr__(self) -> str:
        return f"Loaded(path={self.path!r}, <{len(self.secrets)} secrets>)"


def load_settings(path: Path | None, environ: Mapping[str, str], *, adapters: Collection[str]) -> Loaded:
    """Return the settings of a TOML file (none: the environment's alone), overlaid by the environment.

    Args:
        path: The file; `None` goes without.
        environ: The environment.
        adapters: Names of the installed adapters, whose variables are known.

    Raises:
        ConfigurationError: Something is unknown, wrong or missing; the message has file and line, or the variable.
    """
    text = _read(path)
    fields = _parse(text, path)
    sections = [name for name in HostSettings.model_fields if name != "pools"]
    origins = environment.overlay(fields, environ, adapters, sections)
    if "pools" not in fields:
        lacking = f"{path} has no [[pools]]" if path else "no file was given (--config)"
        raise ConfigurationError(f"no pools: {lacking}, and no variable such as ORCHD_TRITON_URL names an engine")
    secrets: set[str] = set()
    fields = fetch_secrets(fields, environ, secrets)
    try:
        settings = HostSettings.model_validate(fields)
    except ValidationError as exc:
        raise ConfigurationError(_describe(exc, fields, text, path, origins)) from exc
    return Loaded(settings=settings, secrets=frozenset(secrets), path=path)


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8 text") from exc


def _parse(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path} is not TOML: {exc}") from exc


def _describe(
    exc: ValidationError, fields: dict[str, Any], text: str, path: Path | None, origins: Mapping[toml_lines.Path, str]
) -> str:
    lines = toml_lines.lines_of_keys(text)
    faults: list[str] = []
    told: set[toml_lines.Path] = set()
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    for error in errors:
        loc = error["loc"]
        if error["type"] == "too_short" and any(
            len(other["loc"]) > len(loc) == _shared(other["loc"], loc) for other in errors
        ):
            continue  # its items are wrong, which pydantic counts as there being none
        if error["type"] != "missing" and (given := _given(loc, fields)) != loc:
            # Pydantic tells each kind that the value might have been: the first says what is expected.
            if given in told:
                continue
            told.add(given)
            loc = given
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = "unknown key"
        name = ".".join(str(step) for step in loc)
        faults.append(f"{_place(loc, path, lines, origins)}{name}: {message}" if name else message)
    return "invalid settings:\n  " + "\n  ".join(faults)


def _given(loc: toml_lines.Path, fields: object) -> toml_lines.Path:
    """Return as much of a place as was given: after it come pydantic's own names of the kinds in a union."""
    for depth, step in enumerate(loc):
        try:
            fields = fields[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return loc[:depth]
    return loc


def _shared(one: toml_lines.Path, other: toml_lines.Path) -> int:
    """Return how many steps two paths have in common."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _place(
    loc: toml_lines.Path, path: Path | None, lines: dict[toml_lines.Path, int], origins: Mapping[toml_lines.Path, str]
) -> str:
    for length in range(len(loc), 0, -1):
        if loc[:length] in origins:
            return f"{origins[loc[:length]]}: "
        if loc[:length] in lines:
            return f"{path}:{lines[loc[:length]]}: "
    return f"{path}: " if path else ""
