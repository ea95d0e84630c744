"""Which family of layouts a model's output is of: by settings, metadata, names, and the geometry of its shape.

What fits two families is refused with the setting that decides: a wrong guess gives boxes, and nonsense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from adapter_api import ConfigurationError, Unsupported
from adapter_clients.detection.decoders.detr import BOXES, LOGITS
from adapter_clients.detection.geometry import cell_counts
from adapter_clients.detection.metadata import ModelMetadata
from adapter_clients.detection.settings import DetectionSettings, Layout, Task

Shape = tuple[int, ...]

_POSE_VALUES = 17 * 3
_OTHER_TASKS = {"obb": "an oriented-box", "classify": "a classification"}
_TASK_WORDS = {"detect": "a detection", "segment": "a segmentation", "pose": "a pose"}

_TWO_MEANINGS = {
    56: "a pose model with one class (17 points), or a detector with 52 classes",
    85: "an oriented-box model with 80 classes, or a detector with 81",
    135: "a pose model with 80 classes, or a detector with 131",
}
"""Channels that a raw output of two tasks has, and both are common."""


_SIDES = frozenset({4 * 8, 4 * 16, 4 * 17})
"""Values of a box whose sides are distributions."""


class Choice(NamedTuple):
    """A layout and what told it. `classes` is `None` where the shape must tell; `values` belong to each box besides."""

    layout: Layout
    task: Task
    reason: str
    classes: int | None = None
    values: int = 0
    guessed: bool = False
    """Whether only the shape told: then the answer is looked at, too."""


class _Facts(NamedTuple):
    model: str
    size: tuple[int, int]
    metadata: ModelMetadata | None
    settings: DetectionSettings
    task: Task | None
    classes: int | None


def choose_layout(
    model: str, shapes: Mapping[str, Shape], size: tuple[int, int], metadata: ModelMetadata | None,
    settings: DetectionSettings,
) -> Choice | None:  # fmt: skip
    """Return the layout; `None` when only an answer can tell, because a dimension is not fixed.

    Args:
        model: The model's name, for messages.
        shapes: Of its outputs by name, without the batch; -1 is any size.
        size: Height and width of the input.

    Raises:
        Unsupported: The model is for something else, or its output is of no known family, or of two.
        ConfigurationError: Settings do not fit the model.
    """
    names = settings.class_names or (metadata.names if metadata else None)
    task = _task(model, metadata, settings)
    facts = _Facts(model, size, metadata, settings, task, len(names) if names else None)
    if settings.layout == "detr" or settings.layout == "rfdetr":
        return Choice(settings.layout, "detect", "the setting layout", facts.classes)
    if settings.layout is None and (by_name := _by_names(facts, shapes)) is not None:
        return by_name
    if settings.layout is None and metadata and metadata.head == "RTDETRDecoder":
        return Choice("rtdetr", "detect", "the metadata's head", facts.classes)
    if not shapes or any(-1 in shape for shape in shapes.values()):
        return None
    table, prototypes = _tables(facts, shapes)
    if task is None and prototypes is not None:
        facts = facts._replace(task="segment")
    values = _values(facts, prototypes)
    if settings.layout is not None:
        return _set(facts, settings.layout, table, values)
    if metadata is not None and (found := _by_metadata(facts, metadata, table, values)) is not None:
        return found
    return _by_geometry(facts, table, values)


def _task(model: str, metadata: ModelMetadata | None, settings: DetectionSettings) -> Task | None:
    task = settings.task or (metadata.task if metadata else None)
    if task is None or task in _TASK_WORDS:
        return task  # type: ignore[return-value]
    raise Unsupported(
        f"model {model!r} is {_OTHER_TASKS.get(task, f'a {task!r}')} model, as its metadata says; detection, "
        "segmentation and pose models are decoded here"
    )


def _by_names(facts: _Facts, shapes: Mapping[str, Shape]) -> Choice | None:
    if {"dets", "labels"} <= shapes.keys():
        if "masks" in shapes and facts.task != "detect":
            raise Unsupported(f"model {facts.model!r} gives RF-DETR's masks, which are not decoded; set task='detect'")
        return Choice("rfdetr", "detect", "the outputs' names", facts.classes)
    if not (any(name in shapes for name in BOXES) and any(name in shapes for name in LOGITS)):
        return None
    if facts.settings.activation is None or facts.settings.normalise is None:
        raise Unsupported(
            f"model {facts.model!r} is of the DETR kind ({', '.join(shapes)}), and its outputs do not tell which: set "
            "activation and normalise: 'sigmoid' and 'unit' for RT-DETR and D-FINE, 'sigmoid' and 'imagenet' for "
            "Deformable DETR, 'softmax' and 'imagenet' for DETR and YOLOS"
        )
    return Choice("detr", "detect", "the outputs' names and settings", facts.classes)


def _tables(facts: _Facts, shapes: Mapping[str, Shape]) -> tuple[Shape, Shape | None]:
    """Return the shape of the boxes, and that of the prototypes where there are any."""
    tables = [shape for shape in shapes.values() if len(shape) == 2]
    prototypes = [shape for shape in shapes.values() if len(shape) == 3]
    if len(tables) == 1 and len(prototypes) + 1 == len(shapes) <= 2:
        return tables[0], prototypes[0] if prototypes else None
    told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    if not tables and len(shapes) == 1 and len(next(iter(shapes.values()))) == 1:
        raise Unsupported(f"model {facts.model!r} classifies, as it looks: {told}; detectors are decoded here")
    if (kind := _undecoded(shapes)) is not None:
        raise Unsupported(
            f"model {facts.model!r} gives {kind}, which are not decoded here: {told}; export it with its boxes in "
            "one output"
        )
    raise Unsupported(
        f"the outputs of model {facts.model!r} are of no known family: {told}; export it with its boxes in one output"
    )


def _undecoded(shapes: Mapping[str, Shape]) -> str | None:
    """Return what outputs are that give each level by itself, before boxes are made; `None` for others."""
    if any(name.startswith("kps_") for name in shapes) and any(name.startswith("bbox_") for name in shapes):
        return "a face detector's levels (YuNet)"
    tables = [shape for shape in shapes.values() if len(shape) == 2]
    if len(tables) < 4 or len(tables) != len(shapes):
        return None
    # Each level has a table of scores and one of distributions of its boxes' sides.
    sides = sorted(rows for rows, columns in tables if columns in _SIDES)
    scores = sorted(rows for rows, columns in tables if columns not in _SIDES)
    return "scores and box distributions (PicoDet, NanoDet, GFL)" if scores == sides else None


def _values(facts: _Facts, prototypes: Shape | None) -> int:
    if facts.task == "segment":
        if prototypes is None:
            raise Unsupported(f"model {facts.model!r} is a segmentation model without an output of prototypes")
        return prototypes[0]
    if facts.task == "pose":
        points = facts.metadata.keypoints if facts.metadata else None
        return points[0] * points[1] if points else _POSE_VALUES
    return 0


def _set(facts: _Facts, layout: Layout, table: Shape, values: int) -> Choice:
    rows, columns = table
    classes = facts.classes
    if layout == "raw" and rows in cell_counts(*facts.size) and columns not in cell_counts(*facts.size):
        rows = columns  # turned
    there = {"raw": rows - 4 - values, "objectness": columns - 5, "yolox": columns - 5}.get(layout)
    if there is not None and there < 1:
        raise ConfigurationError(f"layout is {layout!r}, and model {facts.model!r} gives {list(table)}: no class left")
    if there is not None and classes not in (None, there):
        _refuse_names(facts, table, there)
    return Choice(layout, facts.task or "detect", "the setting layout", classes, values)


def _by_metadata(facts: _Facts, metadata: ModelMetadata, table: Shape, values: int) -> Choice | None:
    """Return what metadata tells and the shape confirms; `None` where it tells nothing that decides."""
    rows, columns = table
    cells, task = cell_counts(*facts.size), facts.task or "detect"
    if metadata.gives_rows:
        if columns == 6 + values:
            return Choice("rows", task, "the metadata's end2end or nms", facts.classes, values)
        _refuse_contradiction(facts, table, f"finished boxes, [boxes, {6 + values}]")
    is_raw = facts.classes is not None and rows == 4 + facts.classes + values
    if metadata.gives_rows is False and columns == 6 + values and rows not in cells and not is_raw:
        _refuse_contradiction(facts, table, "raw channels")
    classes = facts.classes
    if classes is None:
        return None
    if rows == 4 + classes + values and columns in cells:
        return Choice("raw", task, "the number of class names", classes, values)
    if columns == 5 + classes and rows in {3 * each for each in cells}:
        return Choice("objectness", task, "the number of class names", classes)
    if metadata.gives_rows is None and columns == 6 + values and rows not in cells:
        return Choice("rows", task, "the shape; its metadata is too old to say", classes, values, guessed=True)
    if metadata.head is None and columns == 4 + classes and rows not in cells:
        return Choice("rtdetr", task, "the number of class names", classes)  # of releases before 8.4
    if rows not in cells and columns in cells:
        _refuse_names(facts, table, rows - 4 - values)
    return None


def _by_geometry(facts: _Facts, table: Shape, values: int) -> Choice:
    rows, columns = table
    cells, task = cell_counts(*facts.size), facts.task or "detect"
    reason = f"the shape {list(table)}"
    anchors = {3 * each for each in cells}
    if columns in cells and rows not in cells and rows >= 5 + values:
        there = rows - 4 - values
        if facts.classes not in (None, there):
            _refuse_names(facts, table, there)
        if facts.task is None and facts.classes is None and rows in _TWO_MEANINGS:
            raise Unsupported(
                f"model {facts.model!r} gives {list(table)}: {_TWO_MEANINGS[rows]}; set task ('detect' or 'pose') or "
                "names"
            )
        return Choice("raw", task, reason, facts.classes, values, guessed=True)
    if rows in anchors and rows not in cells and columns >= 6:
        if facts.classes not in (None, columns - 5):
            _refuse_names(facts, table, columns - 5)
        return Choice("objectness", task, reason, facts.classes, guessed=True)
    if rows in cells:
        raise Unsupported(
            f"model {facts.model!r} gives {list(table)}, a row for each of {rows} cells: set layout='yolox' for YOLOX "
            "(and decoded=True where it was exported with its boxes in pixels), 'raw' for turned channels, or 'rows'"
        )
    if columns == 6 + values:
        return Choice("rows", task, reason, facts.classes, values, guessed=True)
    if facts.task is None and columns == 6 + _POSE_VALUES:
        return Choice("rows", "pose", reason, facts.classes, _POSE_VALUES, guessed=True)
    what = "an oriented-box model's (obb)" if columns == 7 else "of no known family"
    raise Unsupported(
        f"the output of model {facts.model!r}, {list(table)}, is {what} for an input of {facts.size[0]} x "
        f"{facts.size[1]}; set layout if you know it"
    )


def _refuse_names(facts: _Facts, table: Shape, there: int) -> NoReturn:
    if there < 1:
        raise Unsupported(
            f"model {facts.model!r} gives {list(table)}, in which no class is left if it is a {facts.task} model: "
            "set task, or layout"
        )
    source = "set" if facts.settings.class_names else "in its metadata"
    raise ConfigurationError(
        f"model {facts.model!r} gives {list(table)}, which is {there} classes, and {facts.classes} names are {source}: "
        "set names (or names_file) to its own"
    )


def _refuse_contradiction(facts: _Facts, table: Shape, said: str) -> NoReturn:
    raise Unsupported(f"the metadata of model {facts.model!r} promises {said}, and it gives {list(table)}: set layout")
