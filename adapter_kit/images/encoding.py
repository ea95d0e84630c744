"""A picture as a model's server takes it: encoded, upright, RGB, within bounds."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec

from adapter_api import InvalidRequest
from adapter_kit.images.limits import PictureLimits
from adapter_kit.images.picture import pixels_of
from adapter_kit.images.reading import (
    ChannelOrder,
    PictureSource,
    open_upright,
    orientation_of,
    pillow,
    read_bytes,
    read_picture,
)

if TYPE_CHECKING:
    from PIL import Image

_KEPT = {"JPEG": "image/jpeg", "PNG": "image/png"}
"""What every server opens."""
_JPEG_QUALITY = 95


class EncodedPicture(msgspec.Struct, frozen=True):
    """An encoded picture, upright and RGB or grey; `width` and `height` in pixels."""

    data: bytes
    media_type: str
    width: int
    height: int

    def __repr__(self) -> str:
        return f"EncodedPicture(<{len(self.data)} bytes>, {self.media_type!r}, {self.width}, {self.height})"


def encode_picture(
    source: PictureSource,
    limits: PictureLimits | None = None,
    *,
    max_side: int | None = None,
    array_order: ChannelOrder = "rgb",
) -> EncodedPicture:
    """Return a picture as JPEG or PNG that needs no turning: servers do not look at EXIF, people do.

    What is such a JPEG or PNG already goes on byte for byte, once it has been decoded whole. Anything else is encoded
    anew: a JPEG as JPEG, the rest as PNG, without loss.

    Args:
        source, limits, array_order: As of `read_picture`.
        max_side: The longer side is scaled down to so many pixels.

    Raises:
        InvalidRequest: As of `read_picture`; also when what is encoded anew has more bytes than the limits allow.
        ConfigurationError: Pillow is not installed.
    """
    Image = pillow()
    limits = limits or PictureLimits()
    if max_side is not None and max_side < 1:
        raise InvalidRequest(f"max_side is {max_side}; it must be 1 or more")
    import numpy as np

    if isinstance(source, np.ndarray):
        return _encoded(Image.fromarray(np.ascontiguousarray(read_picture(source, limits, array_order=array_order))),
                        "PNG", limits, max_side)  # fmt: skip
    content = None if isinstance(source, Image.Image) else read_bytes(source, limits)
    image = open_upright(source if content is None else content, limits)
    fits = max_side is None or max(image.size) <= max_side
    if content is not None and fits and _needs_nothing(image, content):
        return EncodedPicture(bytes(content), _KEPT[str(image.format)], *image.size)
    # Made of the pixels alone: no metadata comes along, the old orientation least of all.
    rgb = Image.fromarray(pixels_of(image))
    return _encoded(rgb, "JPEG" if image.format in ("JPEG", "MPO") else "PNG", limits, max_side)


def _needs_nothing(image: Image.Image, content: bytes | memoryview) -> bool:
    if image.format not in _KEPT or image.mode not in ("RGB", "L"):
        return False
    # The turned image no longer says how it was stored.
    return orientation_of(pillow().open(io.BytesIO(content), formats=(image.format,))) == 1


def _encoded(image: Any, format: str, limits: PictureLimits, max_side: int | None) -> EncodedPicture:
    if max_side is not None and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), pillow().Resampling.LANCZOS)
    target = io.BytesIO()
    if format == "JPEG":
        image.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        image.save(target, "PNG", compress_level=1)
    data = target.getvalue()
    limits.check_bytes(len(data))
    return EncodedPicture(data, _KEPT[format], *image.size)
