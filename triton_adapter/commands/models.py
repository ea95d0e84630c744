"""`worker-adapter models list|load|unload|config|stats`: the model repository of one Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from adapter_api import ConfigurationError
from triton_adapter.commands.prepare import prepare
from triton_adapter.commands.server import JsonOption, SettingsOption, UrlOption, ask, print_json, print_table
from triton_adapter.server.models import Duration

models = typer.Typer(add_completion=False, rich_markup_mode=None)
models.command("prepare")(prepare)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name in the repository.")]
VersionOption = Annotated[
    str | None, typer.Option("--model-version", metavar="N", show_default="all", help="One version of it only.")
]


@models.command("list")
def list_models(
    url: UrlOption = None,
    option: SettingsOption = None,
    ready: Annotated[bool, typer.Option("--ready", help="Only those that take work.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every version of every model in the repository, with its state and why it is not ready."""
    found = ask(url, option, lambda adapter: adapter.models.index(ready_only=ready))
    if as_json:
        print_json({"models": found})
        return
    rows = [(one.name, one.version or "", one.state or "not loaded", one.reason or "") for one in found]
    print_table(("MODEL", "VERSION", "STATE", "REASON"), rows)


@models.command()
def load(
    model: ModelArgument,
    url: UrlOption = None,
    option: SettingsOption = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A whole configuration, as JSON, to use instead of the repository's."),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=FILE", help="A file of the model instead of the repository's, as in 1/model.py=my.py."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Load a model and wait until it takes work.

    One that is loaded, and that nothing changed, is left as it is: to start it anew, unload it first.
    """
    text = None if config is None else _read(config).decode()
    files = dict(_model_file(entry) for entry in file or ())
    loaded = ask(url, option, lambda adapter: adapter.models.bring_up(model, config=text, files=files))
    versions = loaded.schema.versions
    if as_json:
        print_json(
            {
                "model": model,
                "loaded": True,
                "versions": versions,
                "started": loaded.started,
                "answered": loaded.answered,
            }
        )
        return
    anew = f"to start it anew, run `worker-adapter models unload {model}` first"
    untried = "" if loaded.answered else "; whether it still answers was not tried: no request can be made up for it"
    if loaded.started is False:
        typer.echo(f"{model} was loaded already and is left as it is; {anew}{untried}")
        return
    before = "" if loaded.started else f"; it was loaded before, and is started anew only if it changed: {anew}"
    typer.echo(f"{model} is loaded, version {', '.join(versions) or 'unknown'}{before}{untried}")


@models.command()
def unload(
    model: ModelArgument,
    url: UrlOption = None,
    option: SettingsOption = None,
    dependents: Annotated[bool, typer.Option("--dependents", help="Unload the members of an ensemble too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Unload a model: it takes nothing new, and what runs may finish."""
    ask(url, option, lambda adapter: adapter.models.unload(model, dependents=dependents))
    if as_json:
        print_json({"model": model, "loaded": False})
    else:
        typer.echo(f"{model} is unloaded, or will be when what runs has finished")


@models.command()
def config(
    model: ModelArgument,
    url: UrlOption = None,
    option: SettingsOption = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a model's configuration as the server completed it, as JSON in the names of config.pbtxt."""
    found = ask(url, option, lambda adapter: adapter.models.config(model, version=version))
    if as_json:
        print_json(found)
    else:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


@models.command()
def stats(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="One model; all when absent.")] = None,
    url: UrlOption = None,
    option: SettingsOption = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how often each model ran since it was loaded, and how long it took on average."""
    found = ask(url, option, lambda adapter: adapter.models.statistics(model, version=version))
    if as_json:
        print_json({"models": found})
        return
    rows = [
        (
            one.name, one.version, str(one.inference_count), str(one.execution_count), str(one.fail.count),
            _mean_ms(one.queue), _mean_ms(one.compute_infer), _mean_ms(one.success),
        )
        for one in found
    ]  # fmt: skip
    print_table(("MODEL", "VERSION", "INFERENCES", "EXECUTIONS", "FAILED", "QUEUE ms", "COMPUTE ms", "TOTAL ms"), rows)


def _mean_ms(duration: Duration) -> str:
    return f"{duration.ns / duration.count / 1e6:.2f}" if duration.count else ""


def _model_file(entry: str) -> tuple[str, bytes]:
    path, equals, source = entry.partition("=")
    if not (path and equals and source):
        raise ConfigurationError(f"--file {entry}: write it as PATH=FILE, as in 1/model.py=my_model.py")
    return path, _read(Path(source))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from exc
