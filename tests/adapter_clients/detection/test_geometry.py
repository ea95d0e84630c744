"""Into the model's input and back: sizes, placings, datatypes, and a resizer that is OpenCV's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapter_api import ConfigurationError, InferRequest, Unsupported
from adapter_clients import DetectionClient, DetectionSettings
from adapter_clients.detection.placing import place
from adapter_clients.detection.resizing import resize, resized
from adapter_clients.detection.suppression import suppress
from adapter_kit.images import Picture
from tests.adapter_clients.detection.detectors import (
    BLUE,
    GREEN,
    PLAIN,
    RED,
    Array,
    DetectorAdapter,
    picture,
    raw,
    rtdetr,
)
from tests.adapter_kit.test_images import stored

pytestmark = pytest.mark.anyio

Boxes = dict[str, tuple[float, ...]]


async def boxes_of(adapter: DetectorAdapter, image: Any, **settings: Any) -> Boxes:
    async with adapter:
        found = await DetectionClient(adapter, DetectionSettings.make(model="detector", **settings)).detect(image)
    best: Boxes = {}
    for each in found.detections:
        best.setdefault(each.class_name, tuple(each.box))
    return best


@pytest.mark.spec("ORCH-3069-005")
@pytest.mark.parametrize(
    "width, height, red",
    [
        (640, 480, (40, 60, 200, 160)),  # half as large, bars above and below
        (300, 640, (20, 40, 120, 200)),  # 150 wide: 85 on each side
        (302, 640, (20, 40, 120, 200)),  # 151 wide: the odd pixel right
        (640, 302, (40, 20, 200, 120)),
        (80, 60, (10, 10, 30, 30)),  # four times as large
        (320, 320, (32, 32, 96, 96)),  # as it is
        (1920, 960, (60, 120, 600, 480)),  # a sixth
    ],
)
async def test_boxes_are_in_pixels_of_the_picture(width: int, height: int, red: tuple[int, int, int, int]) -> None:
    found = await boxes_of(DetectorAdapter(raw(2100)), picture(width, height, (RED, *red)))

    assert found["0"] == pytest.approx(red, abs=0.01)


@pytest.mark.spec("ORCH-3069-005")
@pytest.mark.parametrize("size", [(256, 320), (320, 256), (96, 640)])
async def test_an_input_need_not_be_square(size: tuple[int, int]) -> None:
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    image = picture(size[1] * 2, size[0] * 2, (RED, 40, 60, 200, 160))

    found = await boxes_of(DetectorAdapter(raw(cells), (1, 3, *size)), image)

    assert found["0"] == pytest.approx((40, 60, 200, 160), abs=0.01)


@pytest.mark.spec("ORCH-3069-005", "ORCH-3069-003")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
async def test_boxes_are_in_the_upright_picture(format: str, orientation: int) -> None:
    found = await boxes_of(
        DetectorAdapter(raw(2100)),
        stored(orientation, format, PLAIN, **({"subsampling": 0} if format == "JPEG" else {})),
    )

    assert found == {"0": (40, 60, 200, 160), "1": (300, 100, 420, 300), "2": (480, 320, 600, 440)}


@pytest.mark.spec("ORCH-3069-005")
async def test_a_placing_that_is_set_is_used() -> None:
    image = picture(640, 320, (RED, 40, 60, 200, 160))

    for placing in ("letterbox", "corner", "stretch"):
        found = await boxes_of(DetectorAdapter(raw(2100)), image, placing=placing)
        assert found["0"] == pytest.approx((40, 60, 200, 160), abs=0.01), placing


@pytest.mark.spec("ORCH-3069-005")
async def test_boxes_end_at_the_edge_unless_the_family_has_them_beyond() -> None:
    image = picture(640, 640, (GREEN, 560, 400, 640, 640))

    def beyond(pixels: Array) -> dict[str, Array]:
        found = rtdetr()(pixels)
        found["output0"][0, 2] *= 3
        return found

    clipped = await boxes_of(DetectorAdapter(raw(2100)), image, confidence=0.6, iou=0.99)
    free = await boxes_of(DetectorAdapter(beyond), image, layout="rtdetr")

    assert clipped["1"] == (560, 400, 640, 640)
    assert free["1"][2] > 640


def test_the_odd_pixel_goes_right_and_below_and_halves_to_even() -> None:
    assert place(302, 640, 320, 320, "letterbox")[2:8] == (320, 320, 84, 0, 151, 320)
    assert place(425, 640, 320, 320, "letterbox").placed_width == 212  # of 212.5
    assert place(427, 640, 320, 320, "letterbox").placed_width == 214  # of 213.5
    assert place(3000, 1, 320, 320, "letterbox").placed_height == 1


@pytest.mark.spec("ORCH-3069-024")
def test_of_a_picture_in_the_corner_one_ratio_leads_back() -> None:
    placement = place(427, 640, 416, 416, "corner")
    points = np.array([[277.55, 416.0], [13.0, 26.0]])

    assert placement[4:8] == (0, 0, 277, 416)  # of 277.55
    assert placement.back(points) == pytest.approx(np.array([[427, 640], [20, 40]]))
    centred = place(427, 640, 416, 416, "letterbox").back(points + np.array([69, 0]))
    assert centred[1] == pytest.approx((13 * 427 / 278, 40))


def _opencv(pixels: Array, width: int, height: int) -> Array:
    """Return what the definition says, in exact numbers: pixel centres, no antialiasing."""
    out = pixels.astype(np.float64)
    for axis, target in ((0, height), (1, width)):
        source = out.shape[axis]
        at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        first = np.floor(at).astype(int)
        second = np.minimum(first + 1, source - 1)
        share = (at - first).reshape([-1 if each == axis else 1 for each in range(3)])
        out = out.take(first, axis) * (1 - share) + out.take(second, axis) * share
    return out


@pytest.mark.spec("ORCH-3069-006")
@pytest.mark.parametrize(
    "source, target",
    [((97, 61), (40, 30)), ((97, 61), (97, 30)), ((97, 61), (50, 61)), ((30, 20), (120, 80)), ((90, 60), (30, 20)),
     ((1, 1), (9, 7)), ((64, 48), (32, 24)), ((7, 300), (5, 3))],
)  # fmt: skip
def test_resizing_is_bilinear_from_pixel_centres(source: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (source[1], source[0], 3), np.uint8)

    found = resize(pixels, *target)

    assert found.shape == (target[1], target[0], 3)
    assert np.abs(found - _opencv(pixels, *target)).max() <= 1.01


@pytest.mark.spec("ORCH-3069-006")
def test_resizing_gives_opencvs_own_numbers() -> None:
    # Of cv2.resize, 4.11, INTER_LINEAR: a ramp of 11 values to 4, and 3 to 7.
    ramp = np.repeat(np.arange(0, 253, 23, np.uint8)[None, :, None], 3, axis=2)
    steps = np.repeat(np.array([0, 100, 255], np.uint8)[None, :, None], 3, axis=2)

    assert resize(ramp, 4, 1)[0, :, 0].tolist() == [20, 83, 147, 210]
    assert resize(steps, 7, 1)[0, :, 0].tolist() == [0, 14, 57, 100, 166, 233, 255]


_MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]


def _image(mode: str, width: int, height: int) -> Image.Image:
    random = np.random.default_rng(width * 1000 + height)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 1 << 16, (height, width), np.uint16))
    colours = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    return (colours.convert("L") if mode == "PA" else colours).convert(mode)


@pytest.mark.spec("ORCH-3069-006")
@pytest.mark.parametrize("mode", _MODES)
def test_shrinking_by_whole_numbers_gives_what_resizing_gives(mode: str) -> None:
    for across, down, (width, height) in itertools.product(range(1, 7), (1, 2, 3, 6), ((1, 1), (7, 5), (133, 77))):
        picture = Picture(_image(mode, width * across, height * down))
        expected = resize(picture.pixels(), width, height)

        assert (resized(picture, width, height) == expected).all()
        assert (resized(Picture(picture.pixels()), width, height) == expected).all()


@pytest.mark.spec("ORCH-3069-007")
@pytest.mark.parametrize(
    "shape", [(1, 3, 320, 320), (2, 3, 320, 320), (-1, 3, 320, 320), (3, 320, 320), (-1, 320, 320, 3)]
)
async def test_every_form_of_input_is_served(shape: tuple[int, ...]) -> None:
    adapter = DetectorAdapter(raw(2100), shape)

    found = await boxes_of(adapter, PLAIN)

    assert found["0"] == (40, 60, 200, 160)
    assert adapter.requests[0].inputs[0].shape == tuple(1 if side == -1 else side for side in shape)


@pytest.mark.spec("ORCH-3069-007")
@pytest.mark.parametrize(
    "datatype, sends",
    [("FP16", lambda values: values), ("UINT8", lambda values: values / 255)],
)
async def test_every_datatype_is_served(datatype: str, sends: Callable[[Array], Array]) -> None:
    adapter = DetectorAdapter(raw(2100), datatype=datatype, sends=sends)

    assert (await boxes_of(adapter, PLAIN))["2"] == (480, 320, 600, 440)
    assert adapter.requests[0].inputs[0].datatype == datatype


@pytest.mark.spec("ORCH-3069-007")
async def test_the_size_of_a_model_that_takes_any_is_set_or_in_its_metadata_or_640() -> None:
    async def side(metadata: str | None = None, **settings: Any) -> tuple[int, ...]:
        adapter = DetectorAdapter(
            lambda pixels: {"o": np.zeros((300, 6), np.float32)}, (1, 3, -1, -1), metadata=metadata,
            declared={"o": (1, -1, 6)},
        )  # fmt: skip
        await boxes_of(adapter, PLAIN, **settings)
        return adapter.requests[0].inputs[0].shape[2:]

    assert await side() == (640, 640)
    assert await side("{'imgsz': [256, 320]}") == (256, 320)
    assert await side("{'imgsz': '[256, 320]'}", size=(64, 96)) == (64, 96)


@pytest.mark.spec("ORCH-3069-007")
async def test_a_size_that_is_not_the_models_and_inputs_that_are_no_picture_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"size is 640 x 640.*320 x 320"):
        await boxes_of(DetectorAdapter(raw(2100)), PLAIN, size=640)
    with pytest.raises(Unsupported, match="no input for a picture"):
        await boxes_of(DetectorAdapter(raw(2100), datatype="INT64"), PLAIN)


async def test_values_are_those_of_the_reference() -> None:
    adapter = DetectorAdapter(raw(2100))
    await boxes_of(adapter, np.full((160, 320, 3), 51, np.uint8))

    (tensor,) = _inputs(adapter.requests[0])
    assert tensor[0, :, 0, 0].tolist() == [np.float32(114) / np.float32(255)] * 3  # the grey around it
    assert tensor[0, :, 160, 160].tolist() == [np.float32(51) / np.float32(255)] * 3


def _inputs(request: InferRequest) -> list[Array]:
    return [tensor.to_numpy() for tensor in request.inputs]


@pytest.mark.spec("ORCH-3069-011")
def test_suppression_is_what_the_plain_rule_gives_whatever_the_number() -> None:
    random = np.random.default_rng(3)
    for count in (0, 1, 2, 127, 128, 129, 600):
        corners = random.uniform(0, 100, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)
        scores, classes = random.permutation(count).astype(np.float32), random.integers(0, 3, count)
        expected: list[int] = []
        for index in np.argsort(-scores):
            if all(classes[index] != classes[kept] or _iou(boxes[index], boxes[kept]) <= 0.5 for kept in expected):
                expected.append(int(index))

        assert suppress(boxes, scores, classes, iou=0.5, most=10_000).tolist() == expected
        assert suppress(boxes, scores, classes, iou=0.5, most=5).tolist() == expected[:5]


def _iou(one: Array, other: Array) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(sides.clip(0)))
    areas = [float(np.prod(each[2:] - each[:2])) for each in (one, other)]
    return common / (sum(areas) - common)


@pytest.mark.spec("ORCH-3069-011")
def test_suppressing_8400_boxes_takes_less_than_a_quarter_of_a_second() -> None:
    random = np.random.default_rng(4)
    corners = random.uniform(0, 600, (8400, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 200, (8400, 2))], axis=1).astype(np.float32)
    scores, classes = random.uniform(0.0001, 1, 8400).astype(np.float32), random.integers(0, 80, 8400)

    began = process_time()
    kept = suppress(boxes, scores, classes, iou=0.7, most=300)

    assert len(kept) == 300
    assert process_time() - began < 0.25


async def test_red_green_and_blue_are_told_apart_by_the_order_of_an_arrays_channels() -> None:
    image = picture(320, 320, (RED, 100, 100, 200, 200))

    assert list(await boxes_of(DetectorAdapter(raw(2100)), image)) == ["0", "1"]
    assert list(await boxes_of(DetectorAdapter(raw(2100)), image, array_order="bgr")) == ["2", "0"]
    blue = picture(320, 320, (BLUE, 100, 100, 200, 200))
    assert list(await boxes_of(DetectorAdapter(raw(2100)), blue, channels="bgr")) == ["0", "1"]
