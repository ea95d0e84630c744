"""`worker-adapter models`: the list, and the commands that plugins add for models of their engines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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

    A subcommand goes to the adapter that is named, or that alone serves the URL, or that the environment has a URL for,
    or that alone offers it; and to none where that leaves several.
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
        named, rest = _without_option(rest, *_free(offers.values(), "--adapter", "-a"))
        named = named or ctx.params.get("adapter")
        chosen = _chosen(name or "", tuple(offers), named, _option(rest, "--url", "-u") or of_environment)
        return name, offers[chosen], rest

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


def _chosen(name: str, offers: tuple[str, ...], adapter: str | None, url: str | None) -> str:
    """Return which of the adapters that offer a subcommand is meant.

    Raises:
        ConfigurationError: It is another one's engine, or several are possible and none is named.
    """
    rest = f"`worker-adapter models --url {url or 'URL'}` lists the models of any engine"
    if adapter is not None:
        adapter = installed_plugins().adapter(adapter).name
        if adapter in offers:
            return adapter
        raise ConfigurationError(f"`models {name}` is of the {_and(offers)} adapter, and not of {adapter}; {rest}")
    if url is not None and "://" in url:
        serving = installed_plugins().adapter_for_url(url).name  # refuses those that several serve
        if serving in offers:
            return serving
        raise ConfigurationError(
            f"`models {name}` is for the {_and(offers)} adapter, and {url} is served by {serving}; {rest}"
        )
    named = [each for each in offers if any(os.environ.get(variable) for variable in _variables(each))]
    if len(named) == 1 and url is None:
        return named[0]
    if len(offers) == 1:
        return offers[0]
    raise ConfigurationError(
        f"`models {name}` is offered by {', '.join(offers)}: name one, as in --adapter {offers[0]}"
    )


def _and(names: Sequence[str]) -> str:
    return " and the ".join(names)


def _variables(adapter: str) -> tuple[str, str]:
    """Return the variables that say where the engine of an adapter is."""
    stem = adapter.upper().replace("-", "_")
    return f"ORCHD_{stem}_URL", f"{stem}_URL"


def _option(args: Sequence[str], long: str, short: str) -> str | None:
    """Return the value of an option among a command's arguments."""
    return _without_option(args, long, short)[0]


def _free(commands: Iterable[Any], *options: str) -> list[str]:
    """Return those of the options that the commands do not take themselves."""
    taken = {option for command in commands for parameter in command.params for option in parameter.opts}
    return [option for option in options if option not in taken]


def _without_option(args: Sequence[str], *spellings: str) -> tuple[str | None, list[str]]:
    """Return the value of an option among a command's arguments, and the others."""
    for index, argument in enumerate(args):
        if argument == "--":
            break
        if argument in spellings and index + 1 < len(args):
            return args[index + 1], [*args[:index], *args[index + 2 :]]
        for spelling in spellings:
            # `--url=URL`, and `-uURL`.
            joined = f"{spelling}=" if spelling.startswith("--") else spelling
            if argument.startswith(joined) and argument != spelling:
                return argument.removeprefix(joined).removeprefix("="), [*args[:index], *args[index + 1 :]]
    return None, list(args)


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
