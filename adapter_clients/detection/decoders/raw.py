"""[4 + classes (+ values), cells]: centre, size in pixels, class probabilities. YOLOv8 and later."""

from __future__ import annotations

import numpy as np

from adapter_clients.detection.decoders.candidates import Candidates, Outputs, Reading, from_centres, only_output
from adapter_clients.detection.geometry import cell_counts


def decode_raw(outputs: Outputs, reading: Reading) -> Candidates:
    """Return the candidates; what stands behind the classes is each box's extras."""
    table = only_output(outputs)
    cells = cell_counts(reading.height, reading.width)
    if table.shape[0] in cells and table.shape[1] not in cells:
        table = table.T  # some exporters turn it; the layout was set, or nothing would have come here
    classes = table.shape[0] - 4 - reading.values if reading.classes is None else reading.classes
    probabilities = table[4 : 4 + classes]
    best = probabilities.max(axis=0)
    chosen = np.flatnonzero(best > reading.confidence)
    columns = table[:, chosen].T
    extras = columns[:, 4 + classes : 4 + classes + reading.values] if reading.values else None
    return Candidates(from_centres(columns[:, :4]), best[chosen], probabilities[:, chosen].argmax(axis=0), extras)
