"""[boxes, 5 + classes]: centre, size in pixels, objectness, class probabilities. YOLOv5's first head, YOLOX decoded."""

from __future__ import annotations

from adapter_clients.detection.decoders.candidates import (
    Array,
    Candidates,
    Outputs,
    Reading,
    best_class,
    from_centres,
    only_output,
    require,
)


def decode_objectness(outputs: Outputs, reading: Reading) -> Candidates:
    return candidates_of(only_output(outputs), reading)


def candidates_of(table: Array, reading: Reading) -> Candidates:
    """Return the candidates of rows whose boxes are in pixels."""
    require(table.shape[1] >= 6, "rows of a box, objectness and classes", table)
    # Both the objectness alone and its product with the class count, as in the reference.
    likely = table[table[:, 4] > reading.confidence]
    classes, scores = best_class(likely[:, 5:] * likely[:, 4:5])
    chosen = scores > reading.confidence
    return Candidates(from_centres(likely[chosen, :4]), scores[chosen], classes[chosen])
