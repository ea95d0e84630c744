"""How large a picture may be."""

from __future__ import annotations

import msgspec

from adapter_api import ConfigurationError, InvalidRequest

PILLOW_MAX_PIXELS = 178_956_970
"""Above this Pillow itself opens nothing."""


class PictureLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that one picture may hold. Both are looked at before anything is decoded.

    max_pixels: width times height. A decoded picture takes three bytes a pixel, and as many again while it is turned.
    max_bytes: of the file, or of the encoded picture.

    Raises:
        ConfigurationError: A limit is below one, or above what Pillow opens.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 50_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= PILLOW_MAX_PIXELS:
            raise ConfigurationError(f"max_pixels is {self.max_pixels}; it must be 1 to {PILLOW_MAX_PIXELS:,}")
        if self.max_bytes < 1:
            raise ConfigurationError(f"max_bytes is {self.max_bytes}; it must be 1 or more")

    def check_size(self, width: int, height: int) -> None:
        """Raise `InvalidRequest` for a picture without pixels, or with more than there may be."""
        if width < 1 or height < 1:
            raise InvalidRequest(f"the picture is {width} x {height}: it has no pixels")
        if width * height > self.max_pixels:
            raise InvalidRequest(
                f"the picture is {width} x {height}, more than {self.max_pixels:,} pixels; make it smaller, or raise "
                "max_pixels"
            )

    def check_bytes(self, size: int) -> None:
        """Raise `InvalidRequest` for nothing, or for more bytes than there may be."""
        if size < 1:
            raise InvalidRequest("the picture is empty: it has no bytes")
        if size > self.max_bytes:
            raise InvalidRequest(
                f"the picture has {size:,} bytes, more than {self.max_bytes:,}; make it smaller, or raise max_bytes"
            )
