"""Bilinear resizing as detectors were trained with it: OpenCV's INTER_LINEAR, in its own fixed-point numbers.

Pixel centres, no antialiasing. A resizer that is only nearly the same moves boxes by pixels where it shrinks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_BITS = 11
_ONE = 1 << _BITS


class _Axis(NamedTuple):
    """For each output position the two source positions and their weights, 11 bits each."""

    first: np.ndarray[Any, Any]
    second: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]
    """Of the second; the first has the rest, which the rounding of each for itself may leave at 2047 or 2049."""
    rest: np.ndarray[Any, Any]

    @property
    def is_plain(self) -> bool:
        """Whether every output position is one source position."""
        return not self.weight.any()


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return `pixels` [h, w, 3] resized to [height, width, 3]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    x, y = _axis(pixels.shape[1], width), _axis(pixels.shape[0], height)
    # Only the rows that count are touched: of a tall picture most are not.
    top = _across(pixels, y.first, x)
    if y.is_plain:
        return top.astype(np.uint8) if x.is_plain else (_rounded(top, _ONE)).astype(np.uint8)
    if x.is_plain:
        top = top.astype(np.int32) << _BITS
        bottom = _across(pixels, y.second, x).astype(np.int32) << _BITS
    else:
        bottom = _across(pixels, y.second, x)
    return _between(top, bottom, y)


def _between(top: np.ndarray[Any, Any], bottom: np.ndarray[Any, Any], y: _Axis) -> Pixels:
    # OpenCV's own cuts: 4 bits before, 16 after the second product, 2 at the end, rounded.
    top >>= 4
    top *= y.rest[:, None]
    top >>= 16
    bottom >>= 4
    bottom *= y.weight[:, None]
    bottom >>= 16
    top += bottom
    top += 2
    top >>= 2
    return top.astype(np.uint8).reshape(top.shape[0], -1, 3)


def _rounded(line: np.ndarray[Any, Any], weight: int) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = (((line >> 4) * weight >> 16) + 2 >> 2).reshape(line.shape[0], -1, 3)
    return found


def _across(pixels: Pixels, rows: np.ndarray[Any, Any], x: _Axis) -> np.ndarray[Any, Any]:
    """Return those rows, resized along x: [rows, width * 3], times 2048; or [rows, width, 3] as they are if plain."""
    chosen = pixels[rows]
    if x.is_plain:
        plain: np.ndarray[Any, Any] = chosen[:, x.first].reshape(len(rows), -1, 3)
        return plain
    flat = chosen.reshape(len(rows), -1)
    channel = np.arange(3)
    left = np.take(flat, (x.first[:, None] * 3 + channel).ravel(), axis=1).astype(np.int32)
    right = np.take(flat, (x.second[:, None] * 3 + channel).ravel(), axis=1).astype(np.int32)
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
