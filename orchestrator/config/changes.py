"""What a reload cannot change: settings of things that are made once, when the host starts."""

from __future__ import annotations

from pydantic import BaseModel

from adapter_api import ConfigurationError
from orchestrator.config.server import HostSettings, ServerSettings

CHANGED_BY_RELOAD = frozenset({("pools",), ("log",), ("server", "api_keys")})


def at_next_start(in_force: HostSettings, read: HostSettings) -> tuple[str, ...]:
    """Return the names of the settings that differ and take effect only when the host is started anew."""
    return tuple(".".join(path) for path in _differences(in_force, read, ()))


def require_keys(in_force: ServerSettings, read: ServerSettings) -> None:
    """Refuse settings whose keys come into force beside an address that stays as it was.

    Raises:
        ConfigurationError: The host listens beyond this machine, and there are no keys any more.
    """
    if not (read.api_keys or in_force.is_loopback or in_force.allow_anonymous):
        raise ConfigurationError(
            f"the host listens on {in_force.host} until its next start, and these settings have no api_keys: "
            "start it anew to change both"
        )


def _differences(old: BaseModel, new: BaseModel, place: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in type(old).model_fields:
        path, before, after = (*place, name), getattr(old, name), getattr(new, name)
        if before == after or path in CHANGED_BY_RELOAD:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            found += _differences(before, after, path)
        else:
            found.append(path)
    return found
