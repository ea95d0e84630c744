"""A model repository's folder, made of an ONNX file: its configuration is written from what the file tells."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from google.protobuf.text_encoding import CEscape

from adapter_api import ConfigurationError
from triton_adapter.repository.onnx_file import OnnxFile, OnnxTensor, read_onnx

Backend = Literal["python", "onnxruntime"]

_RUNNER = Path(__file__).with_name("onnx_model.py")
_SIDE = 640
"""Of the warm-up's picture, where nothing says which."""


class Prepared(NamedTuple):
    """What was written."""

    folder: Path
    name: str
    config: str
    task: str | None
    """What the model is for, as its metadata says."""
    classes: int | None


def prepare_onnx(
    file: Path, repository: Path, *, name: str | None = None, backend: Backend = "python", max_batch_size: int = 8,
    instances: int = 1, gpu: bool = False, names: Sequence[str] | None = None, task: str | None = None,
    overwrite: bool = False,
) -> Prepared:  # fmt: skip
    """Write `repository`/`name`/ with the model, its configuration and what runs it.

    Args:
        file: The ONNX file; it is copied.
        repository: The model repository; it is made when it is not there.
        name: The model's name; the file's if none.
        backend: `python` runs it with onnxruntime in Triton's Python backend, which every server has; `onnxruntime` is
            Triton's own backend.
        max_batch_size: Pictures that are put together, where the model takes any number.
        instances, gpu: How many copies of it run, and on what.
        names, task: Instead of those in the file.
        overwrite: Whether a model of that name is replaced.

    Raises:
        ConfigurationError: The file is no ONNX model, or there is a model of that name.
    """
    found = read_onnx(file)
    name = name or file.stem
    if not name or "/" in name or name.startswith("."):
        raise ConfigurationError(f"{name!r} is no name for a model; give one with --name")
    folder = repository / name
    if folder.exists() and not overwrite:
        raise ConfigurationError(f"{folder} is there already; give another --name, or --overwrite")
    metadata = dict(found.metadata)
    if names is not None:
        metadata["names"] = str(dict(enumerate(names)))
    if task is not None:
        metadata["task"] = task
    config = config_text(
        name, found, metadata, backend=backend, max_batch_size=max_batch_size, instances=instances, gpu=gpu
    )
    version = folder / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, version / "model.onnx")
    beside = file.with_name(f"{file.name}.data")  # weights of large models; the model knows the file by its name
    if beside.is_file():
        shutil.copyfile(beside, version / beside.name)
    if backend == "python":
        shutil.copyfile(_RUNNER, version / "model.py")
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    classes = _literal(metadata.get("names"))
    return Prepared(
        folder, name, config, metadata.get("task"), len(classes) if isinstance(classes, dict | list | tuple) else None
    )


def config_text(
    name: str, model: OnnxFile, metadata: Mapping[str, str], *, backend: Backend = "python", max_batch_size: int = 8,
    instances: int = 1, gpu: bool = False,
) -> str:  # fmt: skip
    """Return a `config.pbtxt` for the model."""
    batches = model.takes_batches and max_batch_size > 0
    kind = "KIND_GPU" if gpu else "KIND_CPU"
    parts = [
        "# Written by `worker-adapter models prepare`.",
        f"name: {_quoted(name)}",
        f"backend: {_quoted(backend)}",
        f"max_batch_size: {max_batch_size if batches else 0}",
        _tensors("input", model.inputs, batches),
        _tensors("output", model.outputs, batches),
        f"instance_group [ {{ kind: {kind}, count: {instances} }} ]",
    ]
    if batches:
        parts += ["# Pictures that come together are computed together.", "dynamic_batching { }"]
    if metadata:
        # The convention of ultralytics, whose own client reads it too: Triton copies no metadata out of a file.
        parts.append(_parameter("metadata", str(dict(metadata))))
    if backend == "python":
        parts.append("# Each instance computes on one core; more of either make it faster where there are cores.")
        parts.append(_parameter("intra_op_num_threads", "1"))
    if all(each.data_type != "TYPE_STRING" for each in model.inputs):
        parts.append(_warm_up(model, metadata, batches))
    return "\n".join(parts) + "\n"


def _tensors(kind: str, tensors: Sequence[OnnxTensor], batches: bool) -> str:
    rows = [
        f"  {{ name: {_quoted(each.name)}, data_type: {each.data_type}, dims: {_dims(_unbatched(each, batches))} }}"
        for each in tensors
    ]
    return f"{kind} [\n" + ",\n".join(rows) + "\n]"


def _warm_up(model: OnnxFile, metadata: Mapping[str, str], batches: bool) -> str:
    """Return a first inference on zeros, so that the first picture does not pay for it."""
    size = _literal(metadata.get("imgsz"))
    size = [size, size] if isinstance(size, int) else size
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (_SIDE, _SIDE)
    inputs = []
    for each in model.inputs:
        shape = _one_picture(_unbatched(each, batches), height, width)
        inputs.append(
            f"    inputs {{ key: {_quoted(each.name)} value {{ data_type: {each.data_type}, dims: {_dims(shape)}, "
            "zero_data: true } }"
        )
    return 'model_warmup [\n  {\n    name: "zeros"\n    batch_size: 1\n' + "\n".join(inputs) + "\n  }\n]"


def _one_picture(shape: Sequence[int], height: int, width: int) -> list[int]:
    """Return the shape with a size for each axis that is open: one picture, of those sides."""
    sides = iter((height, width))
    pictures = len(shape) - 3  # before channels, height and width stands how many there are
    return [side if side != -1 else next(sides, 1) if 0 <= pictures <= axis else 1 for axis, side in enumerate(shape)]


def _unbatched(tensor: OnnxTensor, batches: bool) -> tuple[int, ...]:
    return (tensor.shape[1:] or (1,)) if batches else tensor.shape


def _dims(shape: Sequence[int]) -> str:
    return "[ " + ", ".join(map(str, shape)) + " ]"


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    escaped: str = CEscape(text.encode(), as_utf8=True)
    return '"' + escaped.replace("\\'", "'") + '"'


def _literal(text: str | None) -> Any:
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
