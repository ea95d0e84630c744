"""`worker-adapter models`: the list, and the commands that plugins add for models of their engines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup

from adapter_api import ConfigurationError, ModelProps, PluginBroken, PluginCommand
from worker_adapter.engine_command import ChosenEngine, engine_command, tell
from worker_adapter.engine_options import JsonOption
from worker_adapter.installed import installed_plugins
from worker_adapter.terminal import note, print_table


class ModelsGroup(TyperGroup):
    """Joins what plugins offer under the command name `models`.

    Of several that offer a subcommand, the one whose adapter serves the URL has it; the first by name without a URL.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self._offered)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return next(iter(self._offered.get(cmd_name, {}).values()), None)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        offers = self._offered.get(name or "", {})
        if not offers:
            return name, command, rest
        of_environment = os.environ.get("WORKER_ADAPTER_URL")
        before = ctx.params.get("url")
        if before is not None and before != of_environment:
            raise ConfigurationError(f"write --url after `{name}`, as in `models {name} --url {before}`")
        url = _url_in(rest) or of_environment
        serving = [adapter.name for adapter in installed_plugins().adapters_for_url(url)] if url else []
        if not serving:
            return name, command, rest
        chosen = next((offers[adapter] for adapter in serving if adapter in offers), None)
        if chosen is None:
            raise ConfigurationError(
                f"`models {name}` is for the {' and the '.join(offers)} adapter, and {url} is served by "
                f"{', '.join(serving)}; `worker-adapter models --url {url}` lists the models of any engine"
            )
        return name, chosen, rest

    @cached_property
    def _offered(self) -> dict[str, dict[str, Any]]:
        """The plugins' subcommands by name, and each by the adapters that offer it."""
        found: dict[str, dict[str, Any]] = {}
        for adapter in installed_plugins().adapters:
            for command in adapter.commands:
                if command.name == "models":
                    for name, subcommand in _subcommands(command).items():
                        found.setdefault(name, {})[adapter.name] = subcommand
        return found


def _url_in(args: Sequence[str]) -> str | None:
    """Return the value of `--url` or `-u` among a command's arguments."""
    for index, argument in enumerate(args):
        if argument in ("--url", "-u") and index + 1 < len(args):
            return args[index + 1]
        if argument.startswith("--url="):
            return argument.removeprefix("--url=")
        if argument.startswith("-u") and not argument.startswith("--"):
            return argument[2:]
    return None


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
