"""Pictures in a chat: what is sent of them, and what is refused before anything is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapter_api import Capability, ImagePart, InvalidRequest, TextPart, Unsupported
from adapter_clients import ChatClient, ChatSettings
from tests.adapter_clients.chat.engines import Seeing, mock

pytestmark = pytest.mark.anyio

BY_VALUE, BY_URL = Capability.IMAGES, Capability.IMAGE_URLS
URL = "https://images.example/cat.png"


def picture(size: tuple[int, int] = (40, 20), *, turned: int = 1, format: str = "JPEG", mode: str = "RGB") -> bytes:
    """Left half red, right half blue, when it is looked at upright and unturned."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    exif[0x0112] = turned
    target = io.BytesIO()
    image.convert(mode).save(target, format, exif=exif)
    return target.getvalue()


def sent(adapter: Seeing) -> list[ImagePart]:
    return list(adapter.submitted[-1].images)


def opened(part: ImagePart) -> Image.Image:
    return Image.open(io.BytesIO(part.content))


@pytest.mark.spec("ORCH-3070-013")
async def test_a_picture_goes_before_the_question_as_it_is_where_it_is_fit() -> None:
    adapter = Seeing(BY_VALUE)
    async with ChatClient(adapter) as client:
        answer = await client.chat("What is it?", images=[picture()])

    (message,) = adapter.submitted[0].messages or ()
    assert answer.text == "a cat"
    assert [type(part) for part in message.content or ()] == [ImagePart, TextPart]
    assert sent(adapter)[0].content == picture()
    assert sent(adapter)[0].media_type == "image/jpeg"


@pytest.mark.spec("ORCH-3070-013")
async def test_a_picture_that_is_stored_turned_is_sent_upright() -> None:
    adapter = Seeing(BY_VALUE)
    async with ChatClient(adapter) as client:
        await client.chat("What is it?", images=[picture(turned=6)])

    upright = opened(sent(adapter)[0])
    assert upright.size == (20, 40)
    assert upright.getexif().get(0x0112, 1) == 1
    red, _, blue = upright.convert("RGB").getpixel((10, 5))  # type: ignore[misc]
    assert red > 200 > blue, "what was left is up"


@pytest.mark.spec("ORCH-3070-013")
@pytest.mark.parametrize("format, mode", [("WEBP", "RGB"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("GIF", "P")])
async def test_a_picture_of_another_kind_is_sent_as_one_that_every_server_opens(format: str, mode: str) -> None:
    adapter = Seeing(BY_VALUE)
    async with ChatClient(adapter) as client:
        await client.chat("What is it?", images=[picture(format=format, mode=mode)])

    shown = opened(sent(adapter)[0])
    assert (shown.format in ("JPEG", "PNG"), shown.mode, shown.size) == (True, "RGB", (40, 20))


@pytest.mark.spec("ORCH-3070-013")
async def test_a_large_picture_is_scaled_down() -> None:
    adapter = Seeing(BY_VALUE)
    async with ChatClient(adapter, max_image_side=100) as client:
        await client.chat("What is it?", images=[picture((400, 200))])

    assert opened(sent(adapter)[0]).size == (100, 50)


async def test_a_picture_is_taken_in_every_form(tmp_path: Path) -> None:
    file = tmp_path / "a picture.jpg"
    file.write_bytes(picture())
    data_url = "data:image/jpeg;base64," + ImagePart.model_validate({"data": picture()}).data
    forms: list[Any] = [
        picture(), bytearray(picture()), file, str(file), file.as_uri(), data_url,
        ImagePart.model_validate({"data": picture()}), Image.open(file), np.zeros((20, 40, 3), np.uint8),
    ]  # fmt: skip
    adapter = Seeing(BY_VALUE)
    async with ChatClient(adapter) as client:
        await client.chat("What are they?", images=forms)

    assert [opened(part).size for part in sent(adapter)] == [(40, 20)] * len(forms)


def text_file(folder: Path) -> Path:
    (folder / "text.jpg").write_text("no picture")
    return folder / "text.jpg"


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no picture": (lambda _: b"no picture", "this is no picture"),
    "empty": (lambda _: b"", "it has no bytes"),
    "cut off": (lambda _: picture((400, 200))[:-500], "cut off or damaged"),
    "a text file": (text_file, "this is no picture"),
    "a file that is not there": (lambda folder: folder / "none.jpg", "cannot read"),
    "a folder": (lambda folder: folder, "no file"),
    "too many pixels": (lambda _: picture((800, 800)), "800 x 800, more than 500,000 pixels"),
    "too many bytes": (lambda _: bytes(20_000_001), "20,000,001 bytes, more than"),
    "a wrong data URL": (lambda _: "data:image/png;base64,%%%", "not valid base64"),
    "a data URL without end": (lambda _: "data:image/png;base64," + "A" * 40_002_000, "raise max_image_bytes"),
    "a file of another machine": (lambda _: "file://elsewhere/cat.png", "on another machine"),
    "no file URL": (lambda _: "file://[x/cat.png", "no file URL"),
    "another URL": (lambda _: "ftp://images.example/cat.png", "not fetched from a URL"),
    "a number": (lambda _: 7, "not int"),
}


@pytest.mark.spec("ORCH-3070-009")
@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_picture_is_refused_by_its_number_before_anything_is_sent(name: str, tmp_path: Path) -> None:
    make, fault = BAD[name]
    bad = make(tmp_path)
    adapter = Seeing(BY_VALUE)
    async with ChatClient(adapter, max_image_pixels=500_000) as client:
        with pytest.raises(InvalidRequest, match=f"image 2: .*{fault}"):
            await client.chat("What are they?", images=[picture(), bad])

        assert not adapter.submitted
        assert (await client.chat("Hello")).text == "a cat"
    assert len(client.history()) == 2


@pytest.mark.spec("ORCH-3070-009")
@pytest.mark.parametrize("limit", ["max_image_pixels", "max_image_bytes"])
async def test_what_is_too_large_says_which_setting_of_the_chat_to_raise(limit: str) -> None:
    async with ChatClient(Seeing(BY_VALUE), ChatSettings.model_validate({limit: 10})) as client:
        with pytest.raises(InvalidRequest, match=f"raise {limit}$"):
            await client.chat("What is it?", images=[picture()])


@pytest.mark.spec("ORCH-3070-012")
async def test_a_url_goes_as_it_is_to_a_model_that_fetches_images() -> None:
    adapter = Seeing(BY_URL)
    async with ChatClient(adapter) as client:
        await client.chat("What is it?", images=[URL])

    assert [part.url for part in sent(adapter)] == [URL]


@pytest.mark.spec("ORCH-3070-011")
@pytest.mark.parametrize(
    "forms, image, fault",
    [
        ((), picture(), "takes no images by value: ask without them, or a model that sees"),
        ((), URL, "takes no images by URL"),
        ((BY_URL,), picture(), "takes no images by value"),
        ((BY_VALUE,), URL, "takes no images by URL: give the image itself in place of its URL"),
    ],
    ids=["blind", "blind, by URL", "by URL only", "by value only"],
)
async def test_an_image_that_the_model_cannot_take_is_refused_before_anything_is_sent(
    forms: tuple[Capability, ...], image: Any, fault: str
) -> None:
    adapter = Seeing(*forms) if forms else mock()
    async with ChatClient(adapter) as client:
        with pytest.raises(Unsupported, match=fault):
            await client.chat("What is it?", images=[image])

        assert not adapter.submitted
        await client.chat("Hello")


@pytest.mark.spec("ORCH-3070-011")
async def test_a_history_with_an_image_is_refused_by_a_model_that_cannot_take_it_and_the_chat_goes_on() -> None:
    adapter = Seeing(models={"sees": frozenset({BY_VALUE}), "blind": frozenset()})
    async with ChatClient(adapter, model="sees") as client:
        await client.chat("What is it?", images=[picture()])
        with pytest.raises(Unsupported, match=r"'blind' takes no images .* in the history .*`clear_history`"):
            await client.chat("And where?", model="blind")
        assert len(adapter.submitted) == 1

        assert (await client.chat("And where?")).text == "a cat"
        client.clear_history()
        assert (await client.chat("Hello", model="blind")).text == "a cat"
    assert len(adapter.submitted[1].images) == 1, "the picture is part of the conversation"
