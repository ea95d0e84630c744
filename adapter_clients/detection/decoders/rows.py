"""[boxes, 6 (+ values)]: corners in pixels, score, class. Models that suppress by themselves, or need not."""

from __future__ import annotations

from adapter_clients.detection.decoders.candidates import (
    Candidates,
    Outputs,
    Reading,
    only_output,
    require,
    whole_numbers,
)


def decode_rows(outputs: Outputs, reading: Reading) -> Candidates:
    table = only_output(outputs)
    require(table.shape[1] == 6 + reading.values, f"rows of {6 + reading.values} values", table)
    chosen = table[table[:, 4] > reading.confidence]
    extras = chosen[:, 6:] if reading.values else None
    return Candidates(chosen[:, :4], chosen[:, 4], whole_numbers(chosen[:, 5]), extras)
