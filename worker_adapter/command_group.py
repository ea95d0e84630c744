"""A group of commands that are named at once and imported when run: ours, and those the plugins add."""

from __future__ import annotations

from functools import cached_property
from types import FunctionType
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from adapter_api import ConfigurationError, PluginCommand
from adapter_api.plugins import BLOCK_VARIABLE
from worker_adapter.installed import installed_plugins


class LazyGroup(TyperGroup):
    """A typer group whose `own` commands come first and are joined by the plugins'; none replaces another."""

    own: ClassVar[tuple[PluginCommand, ...]] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        own = [command.name for command in self.own]
        return own + sorted(self._added.keys() - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what `--help` needs to know of a command, without importing it."""
        command = self._find(cmd_name)
        return TyperCommand(cmd_name, help=command.help) if command else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command itself, imported; a usage error for a name there is not."""
        if self._find(args[0]) is None:
            self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name is None or placeholder is None:
            return name, placeholder, rest
        self._refuse_conflict(name)
        command = self._find(name)
        assert command is not None
        return name, _as_typer_command(command), rest

    def _find(self, name: str) -> PluginCommand | None:
        for command in self.own:
            if command.name == name:
                return command
        return next(iter(self._added.get(name, {}).values()), None)

    def _refuse_conflict(self, name: str) -> None:
        owners = sorted(self._added.get(name, {})) if all(command.name != name for command in self.own) else []
        if len(owners) > 1:
            raise ConfigurationError(
                f"command {name!r} is offered by {', '.join(owners)}; "
                f"block all but one with {BLOCK_VARIABLE}={','.join(owners[1:])}"
            )

    @cached_property
    def _added(self) -> dict[str, dict[str, PluginCommand]]:
        """The plugins' commands by name, and each by the adapters that offer it."""
        found: dict[str, dict[str, PluginCommand]] = {}
        for adapter in installed_plugins().adapters:
            for command in adapter.commands:
                found.setdefault(command.name, {})[adapter.name] = command
        return found


def _as_typer_command(command: PluginCommand) -> Any:
    target = command.load()
    if isinstance(target, FunctionType):
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(name=command.name)(target)
        target = app
    if not isinstance(target, typer.Typer):
        raise ConfigurationError(f"command {command.name!r}: {command.target} is neither a typer app nor a function")
    made = typer.main.get_command(target)
    made.name = command.name
    return made
