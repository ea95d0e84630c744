"""The pictures of a question, as parts of a message: by value and made fit for a server, or by URL as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
from pydantic import ValidationError

from adapter_api import ImagePart, InvalidRequest
from adapter_api.task import describe_validation_error
from adapter_clients.chat.settings import ChatSettings
from adapter_kit.images import PictureLimits, encode_picture

if TYPE_CHECKING:
    from adapter_kit.images import PictureSource

    Picture = PictureSource | ImagePart
else:
    Picture = Any

_HEAD = 1024
_AT_ONCE = 2
"""Pictures that are decoded at the same time, of one client: each takes its pixels' memory."""


class Pictures:
    """Reads the pictures of one client, in threads beside the event loop."""

    def __init__(self, settings: ChatSettings) -> None:
        self._limits = PictureLimits(
            max_pixels=settings.max_image_pixels, max_bytes=settings.max_image_bytes,
            pixels_setting="max_image_pixels", bytes_setting="max_image_bytes",
        )  # fmt: skip
        self._max_side = settings.max_image_side
        self._limiter: anyio.CapacityLimiter | None = None

    async def part(self, picture: Picture, *, what: str) -> ImagePart:
        """Return a picture as a message has it: upright, RGB, within bounds; or its http(s) URL, which is not fetched.

        Args:
            picture: The bytes of a file, its path, a `file:`, `data:` or http(s) URL, a Pillow image, an array, or a
                part of a message.
            what: Which picture it is, for errors.

        Raises:
            InvalidRequest: It is none, or too large.
        """
        try:
            source = self._source(picture)
            if isinstance(source, ImagePart):
                return source
            self._limiter = self._limiter or anyio.CapacityLimiter(_AT_ONCE)
            return await anyio.to_thread.run_sync(self._encoded, source, limiter=self._limiter)
        except InvalidRequest as exc:
            raise InvalidRequest(f"{what}: {exc.message}") from exc

    def _encoded(self, source: Any) -> ImagePart:
        content = source() if callable(source) else source
        encoded = encode_picture(content, self._limits, max_side=self._max_side)
        return ImagePart.model_validate({"data": encoded.data, "media_type": encoded.media_type})

    def _source(self, picture: Any) -> Any:
        """Return what is to be encoded, or a function that returns it, or a part that goes as it is."""
        if isinstance(picture, ImagePart):
            return picture if picture.url is not None else lambda: picture.content
        if not isinstance(picture, str):
            return picture
        scheme = picture[:8].partition(":")[0].lower()
        if scheme in ("http", "https"):
            return _part({"url": picture})
        if scheme == "data":
            # Base64 is a third longer than what it stands for, and may have line breaks in it.
            if len(picture) > 2 * self._limits.max_bytes + _HEAD:
                raise InvalidRequest(
                    f"the data: URL has {len(picture):,} characters, for more than {self._limits.max_bytes:,} bytes; "
                    "make the picture smaller, or raise max_image_bytes"
                )
            return lambda: _part({"data": picture}).content
        return _path_of(picture) if scheme == "file" else picture


def _path_of(url: str) -> str:
    try:
        where = urlsplit(url)
    except ValueError:
        raise InvalidRequest("this is no file URL") from None
    if where.netloc not in ("", "localhost"):
        raise InvalidRequest(f"a picture on another machine ({where.netloc[:64]!r}) cannot be read by its file URL")
    return url2pathname(where.path)


def _part(fields: dict[str, str]) -> ImagePart:
    try:
        return ImagePart.model_validate(fields)
    except ValidationError as exc:
        raise InvalidRequest(describe_validation_error(exc, "image")) from exc
