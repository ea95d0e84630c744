"""`worker-adapter models`: the list, and the commands that plugins add for models of their engines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup

from adapter_api import ModelProps, PluginBroken, PluginCommand
from worker_adapter.engine_command import ChosenEngine, engine_command, tell
from worker_adapter.engine_options import JsonOption
from worker_adapter.installed import installed_plugins
from worker_adapter.terminal import note, print_table


class ModelsGroup(TyperGroup):
    """Joins what plugins offer under the command name `models`; the first by adapter name wins a subcommand's name."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self._joined)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self._joined.get(cmd_name)

    @cached_property
    def _joined(self) -> dict[str, Any]:
        joined: dict[str, Any] = {}
        for adapter in reversed(installed_plugins().adapters):
            for command in adapter.commands:
                if command.name == "models":
                    joined.update(_subcommands(command))
        return joined


def _subcommands(command: PluginCommand) -> dict[str, Any]:
    try:
        app = command.load()
    except PluginBroken as exc:
        # One plugin's fault; the list and the other plugins' commands are none the worse for it.
        note(exc.message, "yellow")
        return {}
    return dict(typer.main.get_group(app).commands)


models = typer.Typer(
    cls=ModelsGroup, add_completion=False, rich_markup_mode="rich", invoke_without_command=True, name="models"
)


@models.callback()
@engine_command
def _list(
    ctx: typer.Context,
    engine: ChosenEngine,
    as_json: JsonOption = False,
) -> None:
    """List an engine's models and what each takes."""
    if ctx.invoked_subcommand is not None:
        return
    found = engine.ask(lambda opened: opened.props()).models
    tell({"models": found}, lambda listed: _print(listed["models"]), as_json=as_json)


def _print(found: Sequence[ModelProps]) -> None:
    if found:
        print_models(found)
    else:
        note("the engine has no models")


def print_models(found: Sequence[ModelProps]) -> None:
    """Print one line per model."""
    rows = [
        (
            model.name,
            {True: "yes", False: "no", None: ""}[model.ready],
            ", ".join(model.versions),
            model.dialect or "",
            ", ".join(sorted(model.capabilities)),
        )
        for model in found
    ]
    print_table(("MODEL", "READY", "VERSIONS", "DIALECT", "CAPABILITIES"), rows, {"yes": "green", "no": "red"})
