"""How a picture gets into a model's input, and how boxes get back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from adapter_clients.detection.resizing import Pixels, resized
from adapter_kit.images.picture import Picture

Placing = Literal["letterbox", "stretch", "corner"]

GREY = 114
"""What is around the picture, in all channels."""


class Placement(NamedTuple):
    """Where in an input of `height` by `width` pixels the picture lies."""

    picture_width: int
    picture_height: int
    width: int
    height: int
    left: int
    top: int
    placed_width: int
    placed_height: int
    ratio: float | None = None
    """What the sides were multiplied with before they were cut to whole pixels, where boxes are divided by that."""

    @property
    def gains(self) -> tuple[float, float]:
        """Pixels of the input for each of the picture, along x and y."""
        if self.ratio is not None:
            return self.ratio, self.ratio
        return self.placed_width / self.picture_width, self.placed_height / self.picture_height

    def back(self, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return points [n, …, 2] of the input as points of the picture, in float64."""
        moved: np.ndarray[Any, Any] = (points.astype(np.float64) - (self.left, self.top)) / np.array(self.gains)
        return moved


def place(width: int, height: int, into_width: int, into_height: int, placing: Placing) -> Placement:
    """Return where a picture of `width` by `height` goes.

    `letterbox` keeps its shape and centres it, the odd pixel right and below; `corner` keeps its shape in the upper
    left corner, and one ratio leads back from it for both sides, as in YOLOX's own software; `stretch` fills the input.
    All enlarge, too.
    """
    if placing == "stretch":
        return Placement(width, height, into_width, into_height, 0, 0, into_width, into_height)
    ratio = min(into_height / height, into_width / width)
    if placing == "corner":
        placed = max(int(width * ratio), 1), max(int(height * ratio), 1)
        return Placement(width, height, into_width, into_height, 0, 0, *placed, ratio)
    # Python's round: halves to even, as in the reference.
    placed = max(round(width * ratio), 1), max(round(height * ratio), 1)
    left, top = (round((into - size) / 2 - 0.1) for into, size in zip((into_width, into_height), placed, strict=True))
    return Placement(width, height, into_width, into_height, left, top, *placed)


def put(picture: Picture, placement: Placement, *, antialiased: bool = False) -> Pixels:
    """Return the picture as it is placed: [placed_height, placed_width, 3] of uint8."""
    size = placement.placed_width, placement.placed_height
    if antialiased:
        return _antialiased(picture.pixels(), *size)
    return resized(picture, *size)


def _antialiased(pixels: Pixels, width: int, height: int) -> Pixels:
    from adapter_kit.images.reading import pillow

    Image = pillow()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
