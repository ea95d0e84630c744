"""Pictures from strangers: what is read, how it is turned, and what is refused before it costs anything."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapter_api import ConfigurationError, InvalidRequest
from adapter_kit.images import FORMATS, PictureLimits, encode_picture, read_picture

Array = np.ndarray[Any, Any]

UPRIGHT = np.zeros((24, 40, 3), np.uint8)
UPRIGHT[2:8, 4:20] = (255, 0, 0)
UPRIGHT[12:20, 24:36] = (0, 0, 255)

_BACK = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How a camera stores what EXIF calls by this number."""


def stored(orientation: int, format: str, upright: Array = UPRIGHT, **options: Any) -> bytes:
    turn = _BACK[orientation]
    image = Image.fromarray(upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image if turn is None else image.transpose(turn), format, exif=exif, **options)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


@pytest.mark.spec("ORCH-3069-003")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_picture_that_is_stored_turned_is_read_upright(format: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}

    assert (read_picture(stored(orientation, format, **options)) == UPRIGHT).all()


@pytest.mark.spec("ORCH-3069-003")
def test_every_source_gives_the_same_pixels(tmp_path: Path) -> None:
    content = saved(Image.fromarray(UPRIGHT), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    sources: list[Any] = [
        content, bytearray(content), memoryview(content), path, str(path), Image.open(path), Image.fromarray(UPRIGHT),
        UPRIGHT, UPRIGHT.astype(np.uint16) * 257, np.dstack([UPRIGHT, UPRIGHT[:, :, 0]]),
    ]  # fmt: skip

    assert all((read_picture(source) == UPRIGHT).all() for source in sources)
    assert (read_picture(UPRIGHT[:, :, ::-1], array_order="bgr") == UPRIGHT).all()


@pytest.mark.spec("ORCH-3069-003")
def test_sixteen_bits_keep_their_upper_half() -> None:
    grey = np.arange(0, 65536, 256, np.uint16).reshape(16, 16)

    read = read_picture(saved(Image.fromarray(grey), "PNG"))

    assert (read == (grey >> 8)[:, :, None]).all()


@pytest.mark.spec("ORCH-3069-003")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pictures_of_every_mode_become_rgb(mode: str) -> None:
    assert read_picture(Image.new(mode, (7, 5))).shape == (5, 7, 3)


def bomb(width: int, height: int) -> bytes:
    """Return the head of a PNG of that size, and next to nothing of its body."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def claiming(format: str, width: int, height: int) -> bytes:
    """Return a small picture whose head says that it is of that size."""
    content = bytearray(saved(Image.fromarray(UPRIGHT), format))
    if format == "PNG":
        return bomb(width, height)
    if format == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    elif format == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif format == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    elif format == "WEBP":
        at = content.index(b"\x9d\x01\x2a") + 3
        content[at : at + 4] = struct.pack("<HH", width, height)
    elif format == "TIFF":
        at = struct.unpack_from("<I", content, 4)[0]
        for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", content, at)[0], 12):
            tag = struct.unpack_from("<H", content, entry)[0]
            if tag in (256, 257):
                struct.pack_into("<HII", content, entry + 2, 4, 1, width if tag == 256 else height)
    return bytes(content)


def truncated(format: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    whole = saved(Image.fromarray(noise), format)
    return whole[: len(whole) // 2]


@pytest.mark.spec("ORCH-3069-001")
@pytest.mark.parametrize(
    "source",
    [
        b"", b"this is no picture", b"\x89PNG\r\n\x1a\n", bomb(0, 0), bomb(13_400, 13_400), bomb(60_000, 60_000),
        *(claiming(format, 13_400, 13_400) for format in FORMATS), claiming("JPEG", 0, 40), claiming("BMP", 0, 0),
        *(truncated(format) for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")),
        "no/such/file.png", os.curdir, os.devnull, "https://example.com/a.png", "a\0b", 7, None, [1, 2],
        saved(Image.new("F", (4, 4)), "TIFF"), Image.new("F", (4, 4)),
        np.zeros((4, 4, 3)), np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4, 9), np.uint8), np.zeros(4, np.uint8),
        np.zeros((13_400, 1), np.uint8).repeat(1, axis=1).reshape(1, -1)[:, :, None].repeat(5, axis=2),
    ],
    ids=lambda source: str(source)[:24] if isinstance(source, str) else type(source).__name__,
)  # fmt: skip
def test_what_is_no_picture_is_refused(source: Any) -> None:
    with pytest.raises(InvalidRequest):
        read_picture(source)


@pytest.mark.spec("ORCH-3069-001")
def test_what_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(200_000_000)  # of nothing: it takes no room on the disk
    black = saved(Image.new("1", (9_000, 9_000)), "PNG")
    program = (
        "import resource, sys\n"
        "from adapter_api import InvalidRequest\n"
        "from adapter_kit.images import read_picture\n"
        "read_picture(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[2:]:\n"
        "    try: read_picture(path)\n"
        "    except InvalidRequest as exc: print(exc)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    many = tmp_path / "many.png"
    many.write_bytes(black)
    claims = [tmp_path / f"claims.{format}" for format in FORMATS]
    for path, format in zip(claims, FORMATS, strict=True):
        path.write_bytes(claiming(format, 13_400, 13_400))
    small = tmp_path / "small.png"
    small.write_bytes(saved(Image.fromarray(UPRIGHT), "PNG"))

    ran = subprocess.run(
        [sys.executable, "-c", program, small, large, many, *claims],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    told = ran.stdout.splitlines()
    assert "200,000,000 bytes" in told[0]
    assert "9000 x 9000" in told[1]
    assert all("50,000,000 pixels" in each for each in told[2:-1])
    assert len(told) == 2 + len(FORMATS) + 1
    assert int(told[-1]) < 20_000, f"{told[-1]} kB more than before"


@pytest.mark.spec("ORCH-3069-001")
def test_limits_can_be_set_and_are_named() -> None:
    content = saved(Image.fromarray(UPRIGHT), "PNG")

    with pytest.raises(InvalidRequest, match="max_pixels"):
        read_picture(content, PictureLimits(max_pixels=24 * 40 - 1))
    with pytest.raises(InvalidRequest, match="max_bytes"):
        read_picture(content, PictureLimits(max_bytes=len(content) - 1))
    with pytest.raises(ConfigurationError, match="max_pixels"):
        PictureLimits(max_pixels=10**10)


@pytest.mark.spec("ORCH-3069-002")
@pytest.mark.parametrize(
    "format",
    ["AVIF", "BLP", "DDS", "DIB", "EPS", "ICNS", "ICO", "JPEG2000", "MSP", "PCX", "PDF", "PPM", "QOI", "SGI",
     "SPIDER", "TGA", "XBM"],
)  # fmt: skip
def test_other_formats_are_not_opened(format: str) -> None:
    mode = {"MSP": "1", "XBM": "1", "BLP": "P"}.get(format, "RGB")
    content = saved(Image.new(mode, (32, 32)), format)

    with pytest.raises(InvalidRequest, match="JPEG, PNG, WEBP, BMP, GIF, TIFF"):
        read_picture(content)


@pytest.mark.spec("ORCH-3069-002")
def test_no_parser_of_another_format_is_given_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    others = sorted(set(Image.OPEN) - set(FORMATS))
    assert len(others) > 30
    tried: list[str] = []
    for name in others:
        monkeypatch.setitem(Image.OPEN, name, (lambda file, filename, name=name: tried.append(name), lambda head: True))

    for head in (b"%!PS-Adobe-3.0 EPSF-3.0", b"8BPS", b"\x89HDF\r\n\x1a\n", b"SIMPLE  = T", b"/* XPM */", b"BM"):
        with pytest.raises(InvalidRequest):
            read_picture(head + bytes(200))

    assert tried == []


@pytest.mark.spec("ORCH-3069-002")
def test_a_telephones_jpeg_with_more_pictures_in_it_is_read_as_its_first() -> None:
    content = saved(Image.fromarray(UPRIGHT), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])

    assert Image.open(io.BytesIO(content)).format == "MPO"
    assert read_picture(content).shape == UPRIGHT.shape
    assert encode_picture(content).media_type == "image/jpeg"


@pytest.mark.spec("ORCH-3069-003")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_that_is_stored_turned_is_read_upright(orientation: int) -> None:
    read = read_picture(stored(orientation, "JPEG", quality=100, subsampling=0))

    assert read.shape == UPRIGHT.shape
    assert np.abs(read.astype(int) - UPRIGHT).mean() < 2


@pytest.mark.spec("ORCH-3069-002")
@pytest.mark.parametrize("format", ["EPS", "ICNS", "PPM"])
def test_an_image_of_another_format_that_was_not_decoded_yet_is_not(format: str) -> None:
    content = io.BytesIO(saved(Image.new("RGB", (32, 32)), format))

    with Image.open(content) as opened, pytest.raises(InvalidRequest, match=format):
        read_picture(opened)


@pytest.mark.spec("ORCH-3069-002")
def test_formats_that_are_read_are_read() -> None:
    for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        assert read_picture(saved(Image.fromarray(UPRIGHT), format)).shape == UPRIGHT.shape


@pytest.mark.spec("ORCH-3069-004")
def test_what_needs_no_turning_goes_on_byte_for_byte() -> None:
    for format, media_type in (("PNG", "image/png"), ("JPEG", "image/jpeg")):
        content = saved(Image.fromarray(UPRIGHT), format)
        encoded = encode_picture(content)
        assert (encoded.data, encoded.media_type) == (content, media_type)
        assert (encoded.width, encoded.height) == (40, 24)


@pytest.mark.spec("ORCH-3069-004")
@pytest.mark.parametrize(
    "source",
    [
        stored(6, "PNG"), stored(3, "TIFF"), stored(8, "WEBP", lossless=True), UPRIGHT, Image.fromarray(UPRIGHT),
        saved(Image.fromarray(UPRIGHT).convert("RGBA"), "PNG"), saved(Image.fromarray(UPRIGHT), "BMP"),
    ],
    ids=["turned", "tiff", "webp", "array", "image", "transparent", "bmp"],
)  # fmt: skip
def test_anything_else_is_encoded_anew_without_loss(source: Any) -> None:
    encoded = encode_picture(source)

    image = Image.open(io.BytesIO(encoded.data))
    assert (image.format, image.mode, dict(image.getexif())) == ("PNG", "RGB", {})
    assert (np.asarray(image) == UPRIGHT).all()


@pytest.mark.spec("ORCH-3069-004")
def test_a_turned_jpeg_stays_a_jpeg_and_is_near_what_it_was() -> None:
    content = stored(6, "JPEG", quality=95)

    encoded = encode_picture(content)

    assert encoded.media_type == "image/jpeg"
    assert np.abs(read_picture(encoded.data).astype(int) - read_picture(content)).mean() < 1.5


@pytest.mark.spec("ORCH-3069-004")
def test_a_picture_is_scaled_down_and_the_callers_image_is_left_alone() -> None:
    image = Image.fromarray(UPRIGHT)
    image.info["note"] = "mine"

    encoded = encode_picture(image, max_side=20)

    assert (encoded.width, encoded.height) == (20, 12)
    assert (image.size, image.info) == ((40, 24), {"note": "mine"})
    with pytest.raises(InvalidRequest):
        encode_picture(stored(6, "JPEG")[:200])


@pytest.mark.spec("ORCH-3069-001")
def test_reading_takes_the_memory_of_the_pixels_once() -> None:
    content = saved(Image.new("RGB", (1500, 2000)), "PNG")
    whole = 1500 * 2000 * 3
    read_picture(content)

    tracemalloc.start()
    try:
        pixels = read_picture(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert pixels.nbytes == whole
    assert most < 1.3 * whole


@pytest.mark.spec("ORCH-3069-003")
@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (3, 65_537), (640, 103)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pixels_are_whole_whatever_the_picture_is_cut_into(mode: str, size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(values).convert(mode)

    assert (read_picture(image) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.spec("ORCH-3069-003")
def test_an_array_of_a_kind_of_its_own_is_read_as_a_plain_one() -> None:
    class Kind(np.ndarray[Any, Any]):
        """Like numpy's matrix, whose parts keep two axes."""

        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("it was not made plain")

    grey = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)

    assert (read_picture(grey.view(Kind)) == read_picture(grey)).all()
