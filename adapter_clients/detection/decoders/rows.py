"""[boxes, 6 (+ values)]: corners in pixels, score, class. Models that suppress by themselves, or need not."""

from __future__ import annotations

import numpy as np

from adapter_clients.detection.decoders.candidates import (
    Array,
    Candidates,
    Outputs,
    Reading,
    only_output,
    require,
    whole_numbers,
)

_OFF = 0.01
"""How far a class's number may be from a whole one."""


def decode_rows(outputs: Outputs, reading: Reading) -> Candidates:
    table = only_output(outputs)
    require(table.shape[1] == 6 + reading.values, f"rows of {6 + reading.values} values", table)
    chosen = table[table[:, 4] > reading.confidence]
    require(_are_numbers(chosen[:, 5]), "rows whose last value is the number of a class", table)
    extras = chosen[:, 6:] if reading.values else None
    return Candidates(chosen[:, :4], chosen[:, 4], whole_numbers(chosen[:, 5]), extras)


def _are_numbers(classes: Array) -> bool:
    finite = classes[np.isfinite(classes)]
    return bool((np.abs(finite - np.rint(finite)) <= _OFF).all())
