"""[boxes, 6]: centre and size as fractions of the picture, score, class. RT-DETR as ultralytics exports it."""

from __future__ import annotations

import numpy as np

from adapter_clients.detection.decoders.candidates import (
    Candidates,
    Outputs,
    Reading,
    best_class,
    from_centres,
    only_output,
    require,
    whole_numbers,
)

_LARGEST_FRACTION = 1.5
"""RT-DETR's own are below 1: more are pixels."""


def decode_rtdetr(outputs: Outputs, reading: Reading) -> Candidates:
    """Return the candidates. Releases before 8.4 give a column for each class, and not score and class."""
    table = only_output(outputs)
    require(table.shape[1] >= 5, "rows of a box and its scores", table)
    numbers = table[:, 5:6]
    if table.shape[1] == 6 and np.array_equal(numbers, np.rint(numbers)):
        classes, scores = whole_numbers(table[:, 5]), table[:, 4]
    else:
        classes, scores = best_class(table[:, 4:])
    chosen = np.flatnonzero(scores > reading.confidence)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    require(not (table[chosen, :4] > _LARGEST_FRACTION).any(), "boxes in fractions of the picture", table)
    boxes = from_centres(table[chosen, :4]) * np.array([reading.width, reading.height] * 2, np.float32)
    return Candidates(boxes, scores[chosen], classes[chosen])
