"""`worker-adapter models prepare`: a folder for a model repository, of an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from adapter_api import ConfigurationError
from triton_adapter.commands.server import JsonOption, print_json
from triton_adapter.repository.prepare import prepare_onnx


def prepare(
    file: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model; it is copied.")],
    repository: Annotated[Path, typer.Option("--repository", "-r", metavar="DIR", help="The model repository.")] = Path(
        "models"
    ),
    name: Annotated[
        str | None, typer.Option(show_default="the file's", help="What it is called in the server.")
    ] = None,
    backend: Annotated[
        Literal["python", "onnxruntime"],
        typer.Option(help="onnxruntime in the Python backend, which every server has, or Triton's own backend."),
    ] = "python",
    max_batch_size: Annotated[
        int, typer.Option(min=0, max=1024, help="Pictures computed together, where the model takes any number.")
    ] = 8,
    instances: Annotated[int, typer.Option(min=1, max=64, help="Copies of the model that run at once.")] = 1,
    gpu: Annotated[bool, typer.Option("--gpu", help="Run it on a GPU.")] = False,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default="the model's own", help="Names of its classes, one a line."),
    ] = None,
    task: Annotated[
        Literal["detect", "segment", "pose"] | None,
        typer.Option(show_default="the model's own", help="What it is for, where the file does not say."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a folder of a model repository: the model, its configuration, and what runs it.

    Names, task, datatypes and dimensions are the file's own. Nothing is sent to a server.
    """
    made = prepare_onnx(
        file, repository, name=name, backend=backend, max_batch_size=max_batch_size, instances=instances, gpu=gpu,
        names=_lines(names), task=task, overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        print_json({"model": made.name, "folder": str(made.folder), "task": made.task, "classes": made.classes})
        return
    known = [made.task or "no task in its metadata"]
    if made.classes is None:
        known.append("no class names: give --names")
    else:
        known.append("1 class" if made.classes == 1 else f"{made.classes} classes")
    typer.echo(f"{made.name} is in {made.folder} ({', '.join(known)})")
    typer.echo(f"serve it: worker-adapter triton --model-repository {repository}")


def _lines(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot read names from {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if not found:
        raise ConfigurationError(f"there are no names in {path}: one a line")
    return found
