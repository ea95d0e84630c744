"""[cells, 5 + classes], not yet decoded: offsets within cells, logarithms of sizes, objectness, class probabilities."""

from __future__ import annotations

import numpy as np

from adapter_clients.detection.decoders.candidates import Candidates, Outputs, Reading, only_output, require
from adapter_clients.detection.decoders.objectness import candidates_of
from adapter_clients.detection.geometry import LEVELS, cells_of

_LARGEST = np.float32(20)
"""The exponent of a side of more pixels than any picture has."""


def decode_yolox(outputs: Outputs, reading: Reading) -> Candidates:
    table = only_output(outputs)
    if reading.decoded:
        return candidates_of(table, reading)
    strides = next((each for each in LEVELS if cells_of(reading.height, reading.width, each) == len(table)), None)
    require(strides is not None, f"a row for each cell of {reading.height} x {reading.width}", table)
    corners, steps = [], []
    for stride in strides or ():
        rows, columns = np.mgrid[: -(-reading.height // stride), : -(-reading.width // stride)]
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        steps.append(np.full(rows.size, stride))
    step = np.concatenate(steps).astype(np.float32)[:, None]
    centres = (table[:, :2] + np.concatenate(corners).astype(np.float32)) * step
    sizes = np.exp(np.minimum(table[:, 2:4], _LARGEST)) * step
    return candidates_of(np.concatenate([centres, sizes, table[:, 4:]], axis=1), reading)
