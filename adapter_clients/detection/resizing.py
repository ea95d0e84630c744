"""Bilinear resizing as detectors were trained with it: OpenCV's INTER_LINEAR, in its own fixed-point numbers.

Pixel centres, no antialiasing. A resizer that is only nearly the same moves boxes by pixels where it shrinks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adapter_kit.images.picture import Picture

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Lines = np.ndarray[Any, Any]

_BITS = 11
_ONE = 1 << _BITS


class _Axis(NamedTuple):
    """For each output position the two source positions and their weights, 11 bits each."""

    first: Lines
    second: Lines
    weight: Lines
    """Of the second; the first has the rest, which the rounding of each for itself may leave at 2047 or 2049."""
    rest: Lines

    @property
    def is_plain(self) -> bool:
        """Whether every output position is one source position."""
        return not self.weight.any()


def resized(picture: Picture, width: int, height: int) -> Pixels:
    """Return a picture resized to [height, width, 3], as `resize` does."""
    across, down = picture.width // width, picture.height // height
    if (across, down) == (1, 1) or (across * width, down * height) != (picture.width, picture.height):
        return resize(picture.pixels(), width, height)
    # Of a block of whole sides only its middle counts: one, two or four pixels, in equal parts.
    parts = [picture.every(across, down, left=left, top=top) for top in _middle(down) for left in _middle(across)]
    if len(parts) == 1:
        return parts[0]
    total = parts[0].astype(np.uint16)
    for part in parts[1:]:
        total += part
    total += len(parts) // 2
    total >>= len(parts) // 2
    return total.astype(np.uint8)


def _middle(side: int) -> tuple[int, ...]:
    return (side // 2,) if side % 2 else (side // 2 - 1, side // 2)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return `pixels` [h, w, 3] resized to [height, width, 3]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    x, y = _axis(pixels.shape[1], width), _axis(pixels.shape[0], height)
    # Only the rows that count are touched: of a tall picture most are not.
    found = _part(_across(pixels, y.first, x), y.rest)
    if not y.is_plain:
        found += _part(_across(pixels, y.second, x), y.weight)
    found += 2
    found >>= 2
    return found.astype(np.uint8).reshape(height, width, 3)


def _part(lines: Lines, weights: Lines) -> Lines:
    """Return what lines give to the result, times 4: OpenCV's own cuts, 4 bits before the product and 16 after it."""
    lines >>= 4
    lines *= weights[:, None]
    lines >>= 16
    return lines


def _across(pixels: Pixels, rows: Lines, x: _Axis) -> Lines:
    """Return those rows, resized along x, times 2048: [rows, width * 3]."""
    chosen = pixels[rows]
    if x.is_plain:
        kept: Lines = chosen[:, x.first].reshape(len(rows), -1).astype(np.int32)
        kept <<= _BITS
        return kept
    flat = chosen.reshape(len(rows), -1)
    channel = np.arange(3)
    left: Lines = np.take(flat, (x.first[:, None] * 3 + channel).ravel(), axis=1).astype(np.int32)
    right: Lines = np.take(flat, (x.second[:, None] * 3 + channel).ravel(), axis=1).astype(np.int32)
    left *= np.repeat(x.rest, 3)
    right *= np.repeat(x.weight, 3)
    left += right
    return left


def _axis(source: int, target: int) -> _Axis:
    scale = 1.0 / (target / source)
    at = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    share[(first < 0) | (first >= source - 1)] = 0
    first = first.clip(0, source - 1)
    weight = np.rint(share * np.float32(_ONE)).astype(np.int32)
    rest = np.rint((np.float32(1) - share) * np.float32(_ONE)).astype(np.int32)
    return _Axis(first, np.minimum(first + 1, source - 1), weight, rest)
