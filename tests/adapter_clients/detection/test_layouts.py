"""Every family of layouts: told by what, decoded to the true boxes, and refused where two would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapter_api import AdapterError, ConfigurationError, ProtocolViolation, Unsupported
from adapter_clients import DetectionClient, DetectionResult, DetectionSettings
from tests.adapter_clients.detection.detectors import (
    BLUE,
    GREEN,
    NAMES,
    PLAIN,
    RED,
    SUREST,
    Answer,
    Array,
    DetectorAdapter,
    objectness,
    picture,
    queries,
    raw,
    rows,
    rtdetr,
)

pytestmark = pytest.mark.anyio

CELLS = 2100
"""Of 320 x 320 with strides of 8, 16 and 32."""
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def imagenet(values: Array) -> Array:
    return np.asarray(values * DEVIATION + MEAN)


def yolox_values(values: Array) -> Array:
    return np.asarray(values[::-1] / 255)


async def look(adapter: DetectorAdapter, image: Any = PLAIN, **settings: Any) -> DetectionResult:
    async with adapter:
        return await DetectionClient(adapter, DetectionSettings.make(model="detector", **settings)).detect(image)


def surest(result: DetectionResult) -> list[tuple[Any, ...]]:
    """Return the surest box of each class, with whole pixels where they are within a hundredth of one."""
    best: dict[str, tuple[Any, ...]] = {}
    for each in result.detections:
        rounded = [round(value) if abs(value - round(value)) <= 0.01 else value for value in each.box]
        best.setdefault(each.class_name, (each.class_name, *rounded))
    return sorted(best.values())


@pytest.mark.spec("ORCH-3069-008")
@pytest.mark.parametrize(
    "answer, options, settings, layout, reason",
    [
        (raw(CELLS), {}, {}, "raw", "shape"),
        (raw(CELLS), {"metadata": NAMES}, {}, "raw", "class names"),
        (raw(CELLS), {"metadata": NAMES}, {"layout": "raw"}, "raw", "setting"),
        (rows(), {}, {}, "rows", "shape"),
        (rows(), {"metadata": NAMES.replace("False", "True")}, {}, "rows", "end2end"),
        (rows(50), {"metadata": "{'args': \"{'nms': True}\"}"}, {}, "rows", "end2end or nms"),
        (objectness(3 * CELLS), {}, {}, "objectness", "shape"),
        (objectness(CELLS, undecoded=True), {"sends": yolox_values}, {"layout": "yolox"}, "yolox", "setting"),
        (objectness(CELLS), {"sends": yolox_values}, {"layout": "yolox", "decoded": True}, "yolox", "setting"),
        (rtdetr(), {"metadata": "{'head': 'RTDETRDecoder'}"}, {}, "rtdetr", "head"),
        (rtdetr(), {}, {"layout": "rtdetr"}, "rtdetr", "setting"),
        (queries("dets", "labels"), {"sends": imagenet}, {}, "rfdetr", "names"),
        (queries("pred_boxes", "logits"), {}, {"activation": "sigmoid", "normalise": "unit"}, "detr", "names"),
        (
            queries("pred_boxes", "logits", softmax=True), {"sends": imagenet},
            {"activation": "softmax", "normalise": "imagenet"}, "detr", "names",
        ),
    ],
)  # fmt: skip
async def test_each_family_is_told_and_gives_the_true_boxes(
    answer: Answer, options: dict[str, Any], settings: dict[str, Any], layout: str, reason: str
) -> None:
    # Its sides are whole multiples of the input's, so that a stretched picture has the same edges.
    image = picture(640, 640, (RED, 40, 60, 200, 160), (GREEN, 300, 100, 420, 300), (BLUE, 480, 320, 600, 440))

    result = await look(DetectorAdapter(answer, **options), image, names=("0", "1", "2"), **settings)

    assert surest(result) == SUREST
    assert result.layout == layout
    assert reason in result.layout_reason


@pytest.mark.spec("ORCH-3069-008")
async def test_a_setting_wins_over_metadata_that_is_wrong() -> None:
    wrong = DetectorAdapter(raw(CELLS), metadata=NAMES.replace("False", "True"))

    result = await look(wrong, layout="raw")

    assert surest(result) == [("blue", *SUREST[2][1:]), ("green", *SUREST[1][1:]), ("red", *SUREST[0][1:])]


@pytest.mark.spec("ORCH-3069-008")
async def test_metadata_that_somebody_wrote_as_json_is_read() -> None:
    metadata = '{"task": "detect", "end2end": false, "kpt_shape": null, "names": {"0": "cat", "1": "dog", "2": "cow"}}'

    found = await look(DetectorAdapter(raw(CELLS), metadata=metadata))

    assert found.layout_reason == "the number of class names"
    assert found.detections[0].class_name == "cat"


@pytest.mark.spec("ORCH-3069-008", "ORCH-3069-009")
async def test_fractions_of_a_release_that_does_not_name_its_head_are_told_by_their_columns_or_refused() -> None:
    def old(classes: int) -> Answer:
        def answer(pixels: Array) -> dict[str, Array]:
            found = rtdetr()(pixels)["output0"]
            table = np.zeros((300, 4 + classes), np.float32)
            table[:, :4] = found[:, :4]
            table[np.arange(300), 4 + found[:, 5].astype(int)] = found[:, 4]
            return {"output0": table}

        return answer

    def metadata(classes: int) -> str:
        return str({"task": "detect", "names": dict(enumerate("abcdefgh"[:classes]))})

    image = picture(640, 640, (RED, 40, 60, 200, 160), (GREEN, 300, 100, 420, 300), (BLUE, 480, 320, 600, 440))
    told = await look(DetectorAdapter(old(8), metadata=metadata(8)), image)

    assert (told.layout, told.layout_reason) == ("rtdetr", "the number of class names")
    assert [each[1:] for each in surest(told)] == [each[1:] for each in SUREST]
    only_red = picture(640, 640, (RED, 40, 60, 200, 160))
    with pytest.raises(Unsupported, match="rtdetr"):  # six columns may be finished boxes, too
        await look(DetectorAdapter(old(2), metadata=metadata(2)), only_red)


@pytest.mark.spec("ORCH-3069-008")
async def test_where_no_dimension_is_fixed_the_answer_tells() -> None:
    declared = {"output0": (-1, -1, -1)}
    shape = (-1, 3, -1, -1)

    finished = await look(DetectorAdapter(rows(), shape, declared=declared), size=320)
    raw_ones = await look(DetectorAdapter(raw(8400), shape, declared=declared))

    assert (finished.layout, raw_ones.layout) == ("rows", "raw")
    assert surest(finished) == surest(raw_ones) == SUREST


def levels(rows: tuple[int, ...], classes: int, sides: int) -> Answer:
    """A detector that gives scores and distributions of each level, as PicoDet does."""
    return lambda pixels: {
        f"{name}{count}": np.zeros((count, columns), "f4")
        for name, columns in (("scores", classes), ("sides", sides))
        for count in rows
    }


def faces(pixels: Any) -> dict[str, Any]:
    kinds = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    return {f"{kind}_{step}": np.zeros((100, columns), "f4") for kind, columns in kinds for step in (8, 16, 32)}


@pytest.mark.spec("ORCH-3069-009")
@pytest.mark.parametrize(
    "answer, options, names",
    [
        (objectness(CELLS), {}, "layout='yolox'"),
        (raw(CELLS, 52), {}, "task"),
        (raw(CELLS, 81), {}, "names"),
        (queries("pred_boxes", "logits"), {}, "activation"),
        (rows(), {"metadata": NAMES}, "layout"),
        (raw(CELLS), {"metadata": NAMES.replace("False", "True")}, "layout"),
        (raw(CELLS, 80), {"metadata": NAMES}, "names"),
        (lambda pixels: {"a": np.zeros((10, 4), "f4"), "b": np.zeros((10, 9), "f4")}, {}, "one output"),
        (lambda pixels: {"a": np.zeros((123, 9), "f4")}, {}, "layout"),
        (rtdetr(), {}, "rtdetr"),
        (raw(CELLS), {"metadata": "{'task': 'pose', 'names': {0: 'person'}}"}, "set task"),
        (levels((1600, 400, 100, 25), 10, 32), {}, "PicoDet"),
        (levels((1600, 400, 100, 25), 32, 32), {}, "one output"),
        (faces, {}, "YuNet"),
    ],
)
async def test_what_fits_two_layouts_or_none_is_refused_with_what_decides(
    answer: Answer, options: dict[str, Any], names: str
) -> None:
    with pytest.raises((Unsupported, ConfigurationError), match="detector") as caught:
        await look(DetectorAdapter(answer, **options))

    assert names in caught.value.message


@pytest.mark.spec("ORCH-3069-009")
async def test_a_shape_that_means_two_things_is_read_when_names_decide() -> None:
    result = await look(DetectorAdapter(raw(CELLS, 81)), names=[str(number) for number in range(81)])

    assert surest(result)[0] == SUREST[0]


@pytest.mark.spec("ORCH-3069-009")
async def test_an_answer_that_is_not_what_was_declared_is_the_engines_fault() -> None:
    broken = DetectorAdapter(rows(), metadata=NAMES, declared={"output0": (1, 7, CELLS)})

    with pytest.raises(ProtocolViolation, match=r"declared as \[7, 2100\] and came as \[300, 6\]"):
        await look(broken)


@pytest.mark.spec("ORCH-3069-010")
@pytest.mark.parametrize("task, word", [("obb", "oriented"), ("classify", "classification"), ("depth", "'depth'")])
async def test_a_model_for_something_else_is_refused_by_its_task(task: str, word: str) -> None:
    adapter = DetectorAdapter(raw(CELLS), metadata=NAMES.replace("detect", task))

    with pytest.raises(Unsupported, match=word):
        await look(adapter)

    assert not adapter.requests


@pytest.mark.spec("ORCH-3069-010")
async def test_a_classifier_without_metadata_is_recognised() -> None:
    with pytest.raises(Unsupported, match="classifies"):
        await look(DetectorAdapter(lambda pixels: {"probabilities": np.zeros(1000, "f4")}))


@pytest.mark.spec("ORCH-3069-012")
async def test_names_come_from_settings_then_metadata_then_coco_then_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("rouge\nvert\nbleu\n")

    async def named(answer: Answer, metadata: str | None = None, **settings: Any) -> set[str]:
        found = await look(DetectorAdapter(answer, metadata=metadata), **settings)
        return {each.class_name for each in found.detections}

    assert await named(raw(CELLS), NAMES, names=["a", "b", "c"]) == {"a", "b", "c"}
    assert await named(raw(CELLS), NAMES, names_file=file) == {"rouge", "vert", "bleu"}
    assert await named(raw(CELLS), NAMES) == {"red", "green", "blue"}
    assert await named(raw(CELLS)) == {"0", "1", "2"}
    assert await named(lambda pixels: {"o": np.pad(raw(CELLS)(pixels)["output0"], ((0, 77), (0, 0)))}) == {
        "person", "bicycle", "car",
    }  # fmt: skip


@pytest.mark.spec("ORCH-3069-011")
async def test_of_boxes_that_overlap_the_surest_stays_by_class_unless_told_otherwise() -> None:
    one = picture(320, 320, (RED, 100, 100, 200, 200))

    async def scores(**settings: Any) -> list[float]:
        found = await look(DetectorAdapter(raw(CELLS)), one, **settings)
        return [round(each.confidence, 2) for each in found.detections]

    assert await scores() == [0.9, 0.8, 0.3]
    assert await scores(iou=0.5) == [0.9, 0.3]
    assert await scores(iou=0.9) == [0.9, 0.85, 0.8, 0.3]
    assert await scores(class_agnostic=True) == [0.9, 0.8]
    assert await scores(max_detections=1) == [0.9]
    assert await scores(confidence=0.8) == [0.9]  # what is not above it goes
    assert await scores(confidence=0.79) == [0.9, 0.8]
    assert await scores(classes=[1]) == [0.3]


@pytest.mark.spec("ORCH-3069-013")
async def test_a_pose_models_points_are_in_the_picture() -> None:
    metadata = "{'task': 'pose', 'names': {0: 'red'}, 'kpt_shape': [17, 3], 'end2end': False}"

    result = await look(DetectorAdapter(raw(CELLS, 1, extra=51), metadata=metadata))

    surely = result.detections[0]
    assert len(surely.keypoints) == 17
    assert surely.keypoints[0] == pytest.approx((120, 110, 0.75))


@pytest.mark.spec("ORCH-3069-013")
async def test_a_segmentation_models_mask_covers_the_thing() -> None:
    def answer(pixels: Array) -> dict[str, Array]:
        table = np.zeros((4 + 1 + 32, CELLS), np.float32)
        boxes = raw(CELLS, 1)(pixels)["output0"]
        table[: len(boxes)] = boxes
        table[5] = 1
        prototypes = np.zeros((32, 80, 80), np.float32)
        prototypes[0] = -4
        prototypes[0, 15:30, 5:25] = 4  # the lower three quarters of the red box, less at the left
        return {"output0": table, "output1": prototypes}

    result = await look(DetectorAdapter(answer))

    mask = result.detections[0].mask
    assert mask is not None
    inside = mask.to_array()
    assert (mask.left, mask.top, inside.shape) == (40, 60, (100, 160))
    # A cell of the grid is 8 pixels of the picture; 80 of padding are above it: row 15 begins at pixel 40.
    assert inside[4:96, 4:156].all()


@pytest.mark.spec("ORCH-3069-013")
async def test_a_box_without_a_cell_of_its_mask_is_none() -> None:
    def answer(pixels: Array) -> dict[str, Array]:
        boxes = raw(CELLS, 3)(pixels)["output0"]
        table = np.zeros((4 + 3 + 32, CELLS), np.float32)
        table[:7], table[7] = boxes, 1
        prototypes = np.full((32, 80, 80), -4, np.float32)
        prototypes[0, 20, 10] = 4  # one cell, in the red box
        return {"output0": table, "output1": prototypes}

    result = await look(DetectorAdapter(answer, metadata=NAMES.replace("detect", "segment")))

    assert {tuple(each.box) for each in result.detections} == {(40, 60, 200, 160), (80, 60, 240, 160)}


async def test_numbers_that_are_none_are_dropped() -> None:
    def answer(pixels: Array) -> dict[str, Array]:
        table = raw(CELLS)(pixels)["output0"]
        table[0, 3], table[4, 3] = np.nan, 0.99
        table[2, 4], table[5, 4] = np.inf, 0.99
        table[4, 5] = np.nan
        return {"output0": table}

    result = await look(DetectorAdapter(answer))

    assert all(np.isfinite(each.box).all() and np.isfinite(each.confidence) for each in result.detections)
    assert result.detections[0].confidence == pytest.approx(0.9)


async def test_an_engine_that_does_not_tell_its_models_inputs_is_told_of() -> None:
    adapter = DetectorAdapter(raw(CELLS), shape=(1, 1, 320, 320))

    with pytest.raises(AdapterError, match=r"no input for a picture.*\[1, 1, 320, 320\]"):
        await look(adapter)
