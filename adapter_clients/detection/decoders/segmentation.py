"""Boxes of either layout with 32 coefficients each, and the prototypes that they mix to a mask."""

from __future__ import annotations

from adapter_clients.detection.decoders.candidates import Array, Candidates, Decoder, Outputs, Reading, require


def prototypes_of(outputs: Outputs) -> Array | None:
    """Return the output that is prototypes, [coefficients, height, width]."""
    return next((array for array in outputs.values() if array.ndim == 3), None)


def decode_segments(boxes: Decoder, outputs: Outputs, reading: Reading) -> Candidates:
    """Return the candidates of `boxes`, the decoder of the layout, with their prototypes."""
    prototypes = prototypes_of(outputs)
    if prototypes is None:
        table = next(iter(outputs.values()))
        require(False, "an answer with an output of prototypes beside the boxes", table)
    found = boxes(outputs, reading)
    return found._replace(prototypes=prototypes)
