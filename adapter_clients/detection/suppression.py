"""Non-maximum suppression: of boxes that overlap too much, the surest stays."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_APART = 7680.0
"""Added to the boxes of a class, times its number, so that classes do not overlap. The reference's own number: how it
rounds the sum in float32 is part of what it keeps."""
_BLOCK = 128
_MOST_CANDIDATES = 30_000


def suppress(
    boxes: Array, scores: Array, classes: Array, *, iou: float, most: int, class_agnostic: bool = False
) -> Array:
    """Return the indices of the boxes that stay, surest first, at most `most`.

    A box goes when its intersection over union with a surer one that stays is above `iou`; of another class only when
    `class_agnostic`. Of more than 30,000 boxes the surest are looked at. It stops as soon as `most` are found.

    Args:
        boxes: float32 [n, 4], x1 y1 x2 y2.
        scores, classes: [n].
    """
    order = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
    apart = boxes[order].astype(np.float32)
    if not class_agnostic:
        apart = apart + (classes[order].astype(np.float32) * np.float32(_APART))[:, None]
    kept: list[int] = []
    stays = np.empty((0, 4), np.float32)
    for begin in range(0, len(order), _BLOCK):
        block = apart[begin : begin + _BLOCK]
        free = np.ones(len(block), bool) if not kept else ~(_overlaps(block, stays) > iou).any(axis=1)
        inner = _overlaps(block, block) > iou
        fresh = []
        for index in np.flatnonzero(free):
            if not free[index]:
                continue
            fresh.append(index)
            if len(kept) + len(fresh) == most:
                break
            free &= ~inner[index]
        kept += [begin + int(index) for index in fresh]
        if len(kept) >= most:
            break
        stays = np.concatenate([stays, block[fresh]])
    return order[kept[:most]]


def _overlaps(these: Array, those: Array) -> Array:
    """Return the intersection over union of each with each, [these, those]; NaN, which is above nothing, of no area."""
    width = np.minimum(these[:, None, 2], those[None, :, 2]) - np.maximum(these[:, None, 0], those[None, :, 0])
    height = np.minimum(these[:, None, 3], those[None, :, 3]) - np.maximum(these[:, None, 1], those[None, :, 1])
    common = width.clip(0) * height.clip(0)
    areas = [(each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (these, those)]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Array = common / (areas[0][:, None] + areas[1][None, :] - common)
    return shares
