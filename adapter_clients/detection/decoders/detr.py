"""Boxes [queries, 4] and logits [queries, slots], in two outputs: the DETR kind, RF-DETR among them."""

from __future__ import annotations

import numpy as np

from adapter_api import ProtocolViolation
from adapter_clients.detection.decoders.candidates import (
    Array,
    Candidates,
    Outputs,
    Reading,
    best_class,
    from_centres,
    require,
)

BOXES = ("dets", "pred_boxes")
LOGITS = ("labels", "logits", "pred_logits")


def decode_detr(outputs: Outputs, reading: Reading) -> Candidates:
    """Return the candidates.

    With `sigmoid` each slot is a class of its own, and one query may give several boxes; of one slot more than
    there are classes the last means nothing. With `softmax` the last slot is "nothing".
    """
    boxes, logits = _named(outputs, BOXES), _named(outputs, LOGITS)
    require(boxes.ndim == 2 and boxes.shape[1] == 4, "boxes of four values", boxes)
    require(logits.ndim == 2 and len(logits) == len(boxes), f"slots of {len(boxes)} boxes", logits)
    if reading.activation == "softmax":
        exps = np.exp(logits - logits.max(axis=1, keepdims=True))
        classes, scores = best_class((exps / exps.sum(axis=1, keepdims=True))[:, :-1])
        queries = np.arange(len(boxes))
    else:
        slots = logits.shape[1] - (reading.classes == logits.shape[1] - 1)
        with np.errstate(over="ignore"):
            flat = (np.float32(1) / (np.float32(1) + np.exp(-logits[:, :slots]))).ravel()
        best = np.argsort(-flat, kind="stable")[: reading.most]
        queries, classes, scores = best // slots, best % slots, flat[best]
    chosen = np.flatnonzero(scores > reading.confidence)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    corners = from_centres(boxes[queries[chosen]]) * np.array([reading.width, reading.height] * 2, np.float32)
    return Candidates(corners, scores[chosen], classes[chosen])


def _named(outputs: Outputs, names: tuple[str, ...]) -> Array:
    for name in names:
        if name in outputs:
            return outputs[name]
    raise ProtocolViolation(f"the model answered without {' or '.join(names)}; it answered {', '.join(outputs)}")
