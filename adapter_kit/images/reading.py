"""A picture out of bytes, a file, a Pillow image or an array."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Any, Literal

from adapter_api import ConfigurationError, InvalidRequest
from adapter_kit.images.limits import PictureLimits
from adapter_kit.images.picture import Picture, Pixels
from adapter_kit.installing import install_extra

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    PictureSource = bytes | bytearray | memoryview | str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any]
else:
    PictureSource = Any

ChannelOrder = Literal["rgb", "bgr"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What is read, by Pillow's names. Pillow knows forty more; some of them start other programs."""
_OPENED_AS = frozenset({*FORMATS, "MPO"})
"""MPO is what Pillow calls a JPEG with further pictures behind the first, as many telephones make them."""

_ORIENTATION = 0x0112


def read_picture(
    source: PictureSource, limits: PictureLimits | None = None, *, array_order: ChannelOrder = "rgb"
) -> Pixels:
    """Return a picture's pixels, upright: uint8 of shape [height, width, 3], red first; perhaps read-only.

    A picture that says it is to be turned (EXIF) is turned. 16-bit grey keeps its upper 8 bits; transparency is
    dropped; of several frames the first is taken. It takes a processor for milliseconds to a
    second: call it in a thread.

    Args:
        source: An encoded picture in one of `FORMATS`, as bytes or the path of a file; a Pillow image; or an array
            [height, width] or [height, width, 1 to 4] of uint8, uint16 (the upper 8 bits count) or bool.
        limits: The most it may hold; the defaults of `PictureLimits` if `None`.
        array_order: Which channel of an array comes first: OpenCV's arrays are `bgr`. No other source looks at it.

    Raises:
        InvalidRequest: It is no such picture, is cut off, has no pixels, or is larger than the limits allow.
        ConfigurationError: Pillow is not installed.
    """
    return open_picture(source, limits, array_order=array_order).pixels()


def open_picture(
    source: PictureSource, limits: PictureLimits | None = None, *, array_order: ChannelOrder = "rgb"
) -> Picture:
    """Return a picture, decoded and upright, for those who need its size, or not all of its pixels.

    Takes and raises what `read_picture` does.
    """
    import numpy as np

    limits = limits or PictureLimits()
    if isinstance(source, np.ndarray):
        return Picture(_of_array(np.asarray(source), limits, array_order))  # a plain array, whatever kind it is of
    return Picture(open_upright(source, limits))


def open_upright(source: PictureSource, limits: PictureLimits) -> Image.Image:
    """Return a picture that is no array as a decoded Pillow image, turned upright, in its own mode."""
    Image = pillow()
    if isinstance(source, Image.Image):
        return _decoded(source, limits)
    content = read_bytes(source, limits)
    try:
        # The formats are looked into one by one until one fits; only the head is read.
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidRequest(f"the picture has more than {limits.max_pixels:,} pixels; make it smaller") from None
    except Exception as exc:
        # A stranger's bytes in a parser's hands: what it raises is not of one family.
        raise InvalidRequest(f"this is no picture, or a broken one: {', '.join(FORMATS)} are read") from exc
    return _decoded(opened, limits)


def read_bytes(source: Any, limits: PictureLimits) -> bytes | memoryview:
    """Return an encoded picture's bytes; raises `InvalidRequest` when there are none, or more than there may be."""
    if isinstance(source, bytes | bytearray | memoryview):
        limits.check_bytes(len(source) if not isinstance(source, memoryview) else source.nbytes)
        return bytes(source)
    if not isinstance(source, str | os.PathLike):
        raise InvalidRequest(
            f"a picture is bytes, a path, a Pillow image or a numpy array, not {type(source).__name__}"
        )
    path = os.fspath(source)
    if isinstance(path, str) and "://" in path[:16]:
        raise InvalidRequest("a picture is not fetched from a URL; fetch it yourself and give its bytes")
    try:
        # Not to wait for a writer, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as exc:
        raise InvalidRequest(f"cannot read {path!r}: {getattr(exc, 'strerror', None) or exc}") from exc
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise InvalidRequest(f"{path!r} is no file")
    with open(descriptor, "rb") as file:
        limits.check_bytes(found.st_size)
        content = file.read(limits.max_bytes + 1)  # it may have grown
    limits.check_bytes(len(content))
    return content


def pillow() -> Any:
    """Return `PIL.Image`; raises `ConfigurationError` with the command that installs it."""
    try:
        from PIL import Image
    except ImportError as exc:
        raise ConfigurationError(f"pictures need Pillow: {install_extra('vision')}") from exc
    return Image


def orientation_of(image: Image.Image) -> int:
    """Return the number by which EXIF says how the picture is stored; 1, upright, where nothing can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of a stranger's bytes again; the pixels are sound
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _decoded(image: Image.Image, limits: PictureLimits) -> Image.Image:
    limits.check_size(*image.size)
    if image.format not in _OPENED_AS and not _is_decoded(image):
        raise InvalidRequest(f"pictures of format {image.format} are not read: {', '.join(FORMATS)} are")
    try:
        image.load()
    except Exception as exc:
        raise InvalidRequest("the picture is cut off or damaged: it cannot be decoded") from exc
    return _turned(image)


def _is_decoded(image: Image.Image) -> bool:
    """Return whether the pixels are there: of what a caller made or loaded, whatever it was before."""
    kept = vars(image)
    return kept.get("_im", kept.get("im")) is not None and not getattr(image, "tile", None)


def _turned(image: Image.Image) -> Image.Image:
    Transpose = pillow().Transpose
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }.get(orientation_of(image))  # fmt: skip
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format
    return turned


def _of_array(array: np.ndarray[Any, Any], limits: PictureLimits, order: ChannelOrder) -> Pixels:
    import numpy as np

    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise InvalidRequest(
            f"an array of shape {list(array.shape)} is no picture: it is [height, width] or [height, width, 1 to 4]"
        )
    limits.check_size(array.shape[1], array.shape[0])
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8:
        raise InvalidRequest(
            f"an array of {array.dtype} is no picture; give uint8, 0 to 255, as in (array * 255).astype('uint8')"
        )
    channels = array if array.ndim == 3 else array[:, :, None]
    if channels.shape[2] < 3:
        return np.repeat(channels[:, :, :1], 3, axis=2)
    return channels[:, :, :3] if order == "rgb" else channels[:, :, 2::-1]
