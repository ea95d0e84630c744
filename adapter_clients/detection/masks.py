"""The mask of one detection, kept small until somebody asks for its pixels."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from adapter_clients.detection.boxes import Box
from adapter_clients.detection.placing import Placement


class Mask(msgspec.Struct, frozen=True, eq=False):
    """Which pixels of a box belong to the thing. Holds the model's own coarse grid; `to_array` makes pixels of it."""

    logits: np.ndarray[Any, Any]
    box: Box
    placement: Placement

    def is_empty(self, box: np.ndarray[Any, Any]) -> bool:
        """Return whether no cell of the grid within a box in pixels of the input belongs to the thing."""
        rows, columns = self.logits.shape
        cells = np.array([columns / self.placement.width, rows / self.placement.height] * 2)
        x1, y1, x2, y2 = np.ceil(box * cells).clip(0, max(rows, columns)).astype(int)
        return not (self.logits[y1:y2, x1:x2] > 0).any()

    @property
    def left(self) -> int:
        return int(np.floor(self.box.x1))

    @property
    def top(self) -> int:
        return int(np.floor(self.box.y1))

    def to_array(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return the mask within the box, [height, width]; its first pixel is at `left`, `top` in the picture."""
        right, bottom = int(np.ceil(self.box.x2)), int(np.ceil(self.box.y2))
        place, grid = self.placement, self.logits.shape
        x = (np.arange(self.left, right) + 0.5) * place.gains[0] + place.left
        y = (np.arange(self.top, bottom) + 0.5) * place.gains[1] + place.top
        columns = _between(x * grid[1] / place.width - 0.5, grid[1])
        rows = _between(y * grid[0] / place.height - 0.5, grid[0])
        lines = self.logits[rows[0]] * (1 - rows[2])[:, None] + self.logits[rows[1]] * rows[2][:, None]
        found: np.ndarray[Any, np.dtype[np.bool_]] = (
            lines[:, columns[0]] * (1 - columns[2]) + lines[:, columns[1]] * columns[2]
        ) > 0
        return found


def mask_of(coefficients: np.ndarray[Any, Any], prototypes: np.ndarray[Any, Any], box: Box, place: Placement) -> Mask:
    """Return the mask of one box: the mix of the prototypes."""
    return Mask(np.tensordot(coefficients, prototypes, axes=1).astype(np.float16), box, place)


def _between(at: np.ndarray[Any, Any], size: int) -> tuple[np.ndarray[Any, Any], ...]:
    first = np.floor(at).clip(0, size - 1).astype(np.int64)
    return first, np.minimum(first + 1, size - 1), (at - first).clip(0, 1).astype(np.float32)
