"""A decoded picture, and its pixels as RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_api import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]
else:
    Pixels = Any

_BAND_PIXELS = 1 << 16
_PICKED = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
"""Modes of which Pillow's pixels become RGB one by one, so that only those have to that are asked for."""


class Picture:
    """A picture, decoded and upright. RGB is made of it when somebody asks, and only of the pixels asked for.

    Args:
        source: A Pillow image, or an array [height, width, 3] of uint8, red first.

    Raises:
        InvalidRequest: Its pixels cannot be made RGB.
    """

    def __init__(self, source: Image.Image | Pixels) -> None:
        its: Any = source
        self._source = its
        self._is_array = hasattr(its, "shape")
        width, height = its.shape[1::-1] if self._is_array else its.size
        self.width: int = width
        self.height: int = height
        if not self._is_array:
            _refuse_floats(its)

    def pixels(self) -> Pixels:
        """Return all, uint8 of [height, width, 3]; perhaps read-only."""
        found: Pixels = self._source if self._is_array else pixels_of(self._source)
        return found

    def every(self, across: int, down: int, *, left: int, top: int) -> Pixels:
        """Return one pixel of each block of `across` by `down`, which divide the sides: that at `left`, `top` in it."""
        if self._is_array or self._source.mode not in _PICKED:
            return self.pixels()[top::down, left::across]
        # From the middle of one pixel to that of the next: the nearest is that very one, and no other is touched.
        steps = (across, 0, left + 0.5 - across / 2, 0, down, top + 0.5 - down / 2)
        size = self.width // across, self.height // down
        return pixels_of(self._source.transform(size, 0, steps))  # 0: affine, the nearest


def pixels_of(image: Image.Image) -> Pixels:
    """Return a Pillow image's pixels as RGB."""
    import numpy as np

    _refuse_floats(image)
    try:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            # Pillow clips where it converts: everything but the darkest 256th would be white.
            grey = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return _copied(image)
    except (ValueError, OSError) as exc:
        raise InvalidRequest(f"pictures of mode {image.mode} cannot be made RGB") from exc


def _copied(image: Image.Image) -> Pixels:
    """Return the pixels as RGB, a band of rows at a time: of the whole at once Pillow makes two copies more, and memory
    that comes and goes by many megabytes is given back to the system each time, and faulted in again."""
    import numpy as np

    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(_BAND_PIXELS // width, 1)
    for top in range(0, height, rows):
        below = min(top + rows, height)
        band = image.crop((0, top, width, below))
        pixels[top:below] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def _refuse_floats(image: Image.Image) -> None:
    if image.mode == "F":
        raise InvalidRequest("the picture's pixels are floats, of no known range; convert it to 8 bits a channel first")
