"""Boxes of either layout with the points of a pose each: x, y and, where there are three values, how sure."""

from __future__ import annotations

import numpy as np

from adapter_clients.detection.boxes import Keypoint
from adapter_clients.detection.decoders.candidates import Array
from adapter_clients.detection.placing import Placement


def keypoints_of(extras: Array, per_point: int, placement: Placement) -> tuple[Keypoint, ...]:
    """Return one box's points in pixels of the picture, within it."""
    points = extras.reshape(-1, per_point)
    places = placement.back(points[:, :2])
    places = places.clip(0, (placement.picture_width, placement.picture_height))
    sure = points[:, 2].tolist() if per_point > 2 else [None] * len(points)
    return tuple(Keypoint(x, y, each) for (x, y), each in zip(np.asarray(places).tolist(), sure, strict=True))
