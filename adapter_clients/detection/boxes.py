"""Places in a picture."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A box in pixels of the upright picture: `x1`, `y1` left and top, `x2`, `y2` right and bottom, from its corner."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1


class Keypoint(NamedTuple):
    """A point of a pose in pixels of the upright picture; `confidence` is `None` where the model has none."""

    x: float
    y: float
    confidence: float | None
