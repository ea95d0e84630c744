"""How far two answers of detectors agree: which boxes are the same, and how well they lie on each other. No I/O."""

from __future__ import annotations

import json
from itertools import starmap
from typing import Any, NamedTuple

_LEAST_OVERLAP = 0.5
_MOST = 300
"""Boxes of an answer that are compared; detectors seldom give more."""

Box = tuple[float, float, float, float]


class BoxMatch(NamedTuple):
    """How two answers agree. `share` is of all boxes of both, 0 to 1, those that have a partner; 1 where neither has
    any. `overlaps` are the intersections over union of the pairs."""

    share: float
    overlaps: tuple[float, ...]


def match_boxes(one: str, other: str) -> BoxMatch | None:
    """Return how the boxes in two answers agree; `None` when one of them is none.

    An answer is JSON, `{"detections": [{"class_name": "cat", "box": [x1, y1, x2, y2]}, …]}`. Boxes of one class that
    overlap by at least half of their union are the same thing, the best pair first, each in one pair only.
    """
    first, second = _boxes(one), _boxes(other)
    if first is None or second is None:
        return None
    if not (first or second):
        return BoxMatch(1.0, ())
    pairs = sorted(
        (
            (overlap(mine, its), i, j)
            for i, (name, mine) in enumerate(first)
            for j, (its_name, its) in enumerate(second)
            if name == its_name
        ),
        reverse=True,
    )
    left, right, found = set(range(len(first))), set(range(len(second))), []
    for share, i, j in pairs:
        if share < _LEAST_OVERLAP:
            break
        if i in left and j in right:
            left.discard(i)
            right.discard(j)
            found.append(share)
    return BoxMatch(2 * len(found) / (len(first) + len(second)), tuple(found))


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes; 0 where there is no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - common
    return common / union if union > 0 else 0.0


def _boxes(answer: str) -> list[tuple[str, Box]] | None:
    try:
        return list(starmap(_box, _detections(answer)))[:_MOST]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _detections(answer: str) -> list[tuple[Any, Any]]:
    return [(each["class_name"], each["box"]) for each in json.loads(answer)["detections"]]


def _box(name: Any, corners: Any) -> tuple[str, Box]:
    x1, y1, x2, y2 = (float(value) for value in corners)
    return str(name), (x1, y1, x2, y2)
