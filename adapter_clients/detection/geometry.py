"""How many cells a grid of an input has: by that layouts are told apart."""

from __future__ import annotations

LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""The strides that detectors have, the usual ones first."""


def cells_of(height: int, width: int, strides: tuple[int, ...]) -> int:
    """Return the cells of all levels together; levels round up where the input is no multiple of their stride."""
    return sum(-(-height // stride) * -(-width // stride) for stride in strides)


def cell_counts(height: int, width: int) -> frozenset[int]:
    """Return what the number of cells may be."""
    return frozenset(cells_of(height, width, strides) for strides in LEVELS)
