"""Joining file and environment into settings, with every fault told by the place it stands at."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from adapter_api import ConfigurationError
from adapter_api.task import in_words_of_json
from orchestrator.config import environment, toml_lines
from orchestrator.config.secrets import Secrets
from orchestrator.config.server import HostSettings


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, the secrets among them (for the log's redaction), and the file they came from."""

    settings: HostSettings
    secrets: frozenset[str]
    path: Path | None

    def __repr__(self) -> str:
        return f"Loaded(path={self.path!r}, <{len(self.secrets)} secrets>)"


class InvalidSettings(ConfigurationError):
    """Settings that are unknown, wrong or missing, all of them told. `fields` is what was read, secrets among it, for
    who looks at what is right in it."""

    def __init__(self, faults: list[str], fields: dict[str, Any]) -> None:
        super().__init__("invalid settings:\n  " + "\n  ".join(faults))
        self.fields = fields


def load_settings(path: Path | None, environ: Mapping[str, str], *, adapters: Collection[str]) -> Loaded:
    """Return the settings of a TOML file (none: the environment's alone), overlaid by the environment.

    Args:
        path: The file; `None` goes without.
        environ: The environment.
        adapters: Names of the installed adapters, whose variables are known.

    Raises:
        InvalidSettings: Something is unknown, wrong or missing; the message has file and line, or the variable.
        ConfigurationError: The file cannot be read, or is no TOML.
    """
    text = _read(path)
    fields = _parse(text, path)
    sections = [name for name in HostSettings.model_fields if name != "pools"]
    faults: list[str] = []
    origins = environment.overlay(fields, environ, adapters, sections, faults)
    secrets, lines = Secrets(environ), toml_lines.lines_of_keys(text)
    fields = secrets.fetch(fields)
    for place, fault in secrets.lacking.items():
        faults.append(f"{_place(place, path, lines, origins)}{_name(place)}: {fault}")
    told = set(secrets.lacking)
    if "pools" not in fields:
        told.add(("pools",))
        lacking = f"{path} has no [[pools]]" if path else "no file was given (--config)"
        faults.append(f"no pools: {lacking}, and no variable such as ORCHD_TRITON_URL names an engine")
    try:
        settings = HostSettings.model_validate(fields)
    except ValidationError as exc:
        faults += _describe(exc, fields, path, lines, origins, told)
    if faults:
        raise InvalidSettings(faults, fields)
    return Loaded(settings=settings, secrets=frozenset(secrets.found), path=path)


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
    exc: ValidationError,
    fields: dict[str, Any],
    path: Path | None,
    lines: dict[toml_lines.Path, int],
    origins: Mapping[toml_lines.Path, str],
    told: set[toml_lines.Path],
) -> list[str]:
    """Return a line for each of pydantic's errors but those at places that were `told` already."""
    faults: list[str] = []
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    for error in errors:
        loc = error["loc"]
        if error["type"] == "too_short" and any(
            len(other["loc"]) > len(loc) == _shared(other["loc"], loc) for other in errors
        ):
            continue  # its items are wrong, which pydantic counts as there being none
        if loc in told:
            continue
        if error["type"] != "missing" and (given := _given(loc, fields)) != loc:
            # Pydantic tells each kind that the value might have been: the first says what is expected.
            if given in told:
                continue
            told.add(given)
            loc = given
        message = in_words_of_json(error["msg"].removeprefix("Value error, "))
        if error["type"] == "extra_forbidden":
            message = "unknown key"
        name = _name(loc)
        faults.append(f"{_place(loc, path, lines, origins)}{name}: {message}" if name else message)
    return faults


def _name(loc: toml_lines.Path) -> str:
    return ".".join(str(step) for step in loc)


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
