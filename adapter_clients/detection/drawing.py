"""What was found, drawn into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapter_clients.detection.masks import Mask
from adapter_clients.detection.results import Detection, DetectionResult
from adapter_kit.images.limits import PictureLimits
from adapter_kit.images.reading import ChannelOrder, PictureSource, pillow, read_picture

if TYPE_CHECKING:
    from PIL.Image import Image

_COLOURS = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (0, 128, 128), (240, 50, 230),
    (170, 110, 40), (128, 0, 0), (0, 0, 128), (128, 128, 0), (210, 245, 60), (70, 240, 240), (250, 190, 212),
    (255, 225, 25), (220, 190, 255),
)  # fmt: skip
"""One a class, told apart by most eyes."""
_TITLE_BACKGROUND = (32, 32, 32)
_MASK_SHARE = 0.4
_LEAST_SIDE = 480
"""In pixels: of a picture on which labels can be read."""

_Place = tuple[float, float, float, float]


def draw_detections(
    image: PictureSource, result: DetectionResult, limits: PictureLimits | None = None, *,
    array_order: ChannelOrder = "rgb",
) -> Image:  # fmt: skip
    """Return the upright picture with the boxes, names and confidences of `result`, the surest on top.

    A picture too small for a label to be read is enlarged by a whole number.

    Args:
        image, limits, array_order: The picture that was looked at, as of `adapter_kit.images.read_picture`.

    Raises:
        InvalidRequest: The picture cannot be read.
        ConfigurationError: Pillow is not installed.
    """
    from PIL import ImageDraw

    pixels = read_picture(image, limits, array_order=array_order)
    if any(each.mask is not None for each in result.detections):
        pixels = _with_masks(pixels, result.detections)
    drawn: Image = pillow().fromarray(np.ascontiguousarray(pixels))
    scale = max(1, -(-_LEAST_SIDE // max(drawn.size)))
    if scale > 1:
        drawn = drawn.resize((drawn.width * scale, drawn.height * scale), pillow().Resampling.NEAREST)
    drawing = _Drawing(ImageDraw.Draw(drawn), drawn.size, scale)
    for each in reversed(result.detections):
        drawing.box(each)
    # After all boxes, and the surest first: it gets the best place.
    for each in result.detections:
        drawing.label(each)
    return drawn


def side_by_side(pictures: Sequence[Image], titles: Sequence[str]) -> Image:
    """Return pictures of one size beside each other, with a title over each."""
    from PIL import ImageDraw

    font = _font(pictures[0].size)
    bar = round(_height(font) * 1.6)
    gap = max(2, bar // 6)
    width = sum(each.width for each in pictures) + gap * (len(pictures) - 1)
    whole: Image = pillow().new("RGB", (width, max(each.height for each in pictures) + bar), _TITLE_BACKGROUND)
    pen, left = ImageDraw.Draw(whole), 0
    for picture, title in zip(pictures, titles, strict=True):
        whole.paste(picture, (left, bar))
        pen.text((left + gap * 2, round(_height(font) * 0.25)), title, font=font, fill=(255, 255, 255))
        left += picture.width + gap
    return whole


class _Drawing:
    """Draws boxes and labels; labels keep clear of each other while there is room."""

    def __init__(self, pen: Any, size: tuple[int, int], scale: int) -> None:
        self._pen = pen
        self._size = size
        self._scale = scale
        self._font = _font(size)
        self._line = max(2, round(min(size) / 240))
        self._taken: list[_Place] = []

    def box(self, found: Detection) -> None:
        x1, y1, x2, y2 = self._corners(found)
        self._pen.rectangle((x1, y1, x2, y2), outline=_colour(found), width=self._line)
        radius = self._line * 1.5
        for point in found.keypoints:
            x, y = point.x * self._scale, point.y * self._scale
            self._pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(found))

    def label(self, found: Detection) -> None:
        text, pad, colour = f"{found.class_name} {found.confidence:.2f}", max(1, self._line), _colour(found)
        width, height = self._pen.textlength(text, font=self._font) + 2 * pad, _height(self._font) + 2 * pad
        left, top = self._free_place(self._corners(found), width, height)
        self._pen.rectangle((left, top, left + width, top + height), fill=colour)
        ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 150 else (255, 255, 255)
        self._pen.text((left + pad, top + pad), text, font=self._font, fill=ink)

    def _corners(self, found: Detection) -> _Place:
        """Return the box in what is drawn; what is beyond the edge is at the edge."""
        x1, y1, x2, y2 = (value * self._scale for value in found.box)
        right, bottom = self._size[0] - 1, self._size[1] - 1
        x1, y1 = min(max(x1, 0), right), min(max(y1, 0), bottom)
        return x1, y1, max(min(x2 - 1, right), x1), max(min(y2 - 1, bottom), y1)

    def _free_place(self, box: _Place, width: float, height: float) -> tuple[float, float]:
        x1, y1, x2, y2 = box
        tops = (y1 - height, y1, y2 - height, y2)
        wanted = [(left, top) for top in tops for left in (x1, x2 - width)]
        within = [
            (min(max(left, 0), max(self._size[0] - 1 - width, 0)), top)
            for left, top in wanted
            if 0 <= top <= self._size[1] - height
        ] or [(x1, max(y1 - height, 0))]
        free = (place for place in within if not self._is_taken(*place, width, height))
        left, top = next(free, within[0])
        self._taken.append((left, top, left + width, top + height))
        return left, top

    def _is_taken(self, left: float, top: float, width: float, height: float) -> bool:
        return any(
            left < other[2] and other[0] < left + width and top < other[3] and other[1] < top + height
            for other in self._taken
        )


def _colour(found: Detection) -> tuple[int, int, int]:
    return _COLOURS[found.class_id % len(_COLOURS)]


def _with_masks(pixels: np.ndarray[Any, np.dtype[np.uint8]], found: Sequence[Detection]) -> np.ndarray[Any, Any]:
    painted = pixels.copy()
    for each in reversed(found):
        if each.mask is not None:
            _paint(painted, each.mask, _colour(each))
    return painted


def _paint(pixels: np.ndarray[Any, np.dtype[np.uint8]], mask: Mask, colour: tuple[int, int, int]) -> None:
    inside = mask.to_array()
    part = pixels[mask.top : mask.top + inside.shape[0], mask.left : mask.left + inside.shape[1]]
    inside = inside[: part.shape[0], : part.shape[1]]
    mixed = part[inside] * (1 - _MASK_SHARE) + np.array(colour) * _MASK_SHARE
    part[inside] = mixed.astype(np.uint8)


def _font(size: tuple[int, int]) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(max(11, round(min(size) / 34)))


def _height(font: Any) -> int:
    _, top, _, bottom = font.getbbox("Ag")
    return int(bottom + top)
