"""What all decoders give and take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from adapter_api import ProtocolViolation, Unsupported

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]
"""The outputs for one picture by name, without the batch axis, as float32."""


class Candidates(NamedTuple):
    """Boxes above the confidence: float32 [n, 4], x1 y1 x2 y2 in pixels of the input; scores and class numbers [n];
    what else belongs to each, [n, k], and the masks' prototypes [k, height, width], of models that have them."""

    boxes: Array
    scores: Array
    classes: Array
    extras: Array | None = None
    prototypes: Array | None = None

    def at(self, chosen: Array) -> Candidates:
        """Return those at an index or mask."""
        return self._replace(
            boxes=self.boxes[chosen], scores=self.scores[chosen], classes=self.classes[chosen],
            extras=None if self.extras is None else self.extras[chosen],
        )  # fmt: skip


class Reading(NamedTuple):
    """How an output is to be read."""

    height: int
    width: int
    """Of the input, in pixels."""
    confidence: float
    most: int
    classes: int | None
    """How many there are; `None` where nothing tells."""
    activation: str | None = None
    decoded: bool = False
    values: int = 0
    """Of each box beside class and box: mask coefficients, or a pose's points."""


Decoder = Callable[[Outputs, Reading], Candidates]


def from_centres(boxes: Array) -> Array:
    """Return boxes of centre, width and height as their corners."""
    half = boxes[:, 2:4] / np.float32(2)
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def only_output(outputs: Outputs) -> Array:
    """Return the output, or the one of several that is a table of boxes; raises `Unsupported` when none is."""
    tables = [array for array in outputs.values() if array.ndim == 2]
    if len(tables) != 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        raise Unsupported(f"none of the model's outputs, or several, can be its boxes: {shapes}")
    return tables[0]


def best_class(scores: Array) -> tuple[Array, Array]:
    """Return of [boxes, classes] the surest class of each box, and how sure it is."""
    best = scores.argmax(axis=1)
    return best, np.take_along_axis(scores, best[:, None], axis=1)[:, 0]


def whole_numbers(classes: Array) -> Array:
    """Return class numbers that came as floats; -1, which no class has, for what is none."""
    sound = np.isfinite(classes) & (classes >= 0) & (classes < 1 << 31)
    return np.where(sound, classes, -1).astype(np.int64)


def require(fits: bool, what: str, array: Array) -> None:
    """Raise `ProtocolViolation` for an answer that is not of the layout it is read as."""
    if not fits:
        raise ProtocolViolation(f"the model answered {list(array.shape)}, which is not {what}; set `layout`")
