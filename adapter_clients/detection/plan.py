"""What is to be done for one model: how its pictures go in, and how its answers are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from adapter_api import InferResponse, InvalidRequest, ModelProps, ProtocolViolation, Tensor, Unsupported
from adapter_clients.detection.boxes import Box
from adapter_clients.detection.decoders.candidates import Candidates, Outputs, Reading
from adapter_clients.detection.decoders.pose import keypoints_of
from adapter_clients.detection.decoders.segmentation import decode_segments, prototypes_of
from adapter_clients.detection.families import FAMILIES, UNTIL_THE_ANSWER, Family
from adapter_clients.detection.inputs import ImageInput, find_input, without_batch
from adapter_clients.detection.layouts import Choice, choose_layout
from adapter_clients.detection.masks import mask_of
from adapter_clients.detection.metadata import ModelMetadata, read_metadata
from adapter_clients.detection.names import coco_names
from adapter_clients.detection.placing import Placement, place, put
from adapter_clients.detection.results import Detection
from adapter_clients.detection.settings import DetectionSettings
from adapter_clients.detection.suppression import suppress
from adapter_kit.images.picture import Picture

_FLOATS = frozenset({"FP32", "FP16", "FP64", "BF16"})


class Thresholds(NamedTuple):
    """What a call wants otherwise than the settings; `None` is as they have it."""

    confidence: float | None = None
    iou: float | None = None


class Plan:
    """The way of a picture to one model and back. Made of what the model declares; does no I/O.

    Raises:
        Unsupported, ConfigurationError: The model is none that can be decoded, or settings do not fit it.
    """

    def __init__(self, model: ModelProps, settings: DetectionSettings) -> None:
        self._model = model.name
        self._settings = settings
        self._metadata: ModelMetadata | None = read_metadata(model.metadata)
        self.image: ImageInput = find_input(model, self._metadata, settings)
        self._declared = {spec.name: without_batch(spec.shape, self.image) for spec in model.outputs}
        self._choice = self._choose(self._declared)
        if model.outputs and not any(spec.datatype in _FLOATS for spec in model.outputs):
            told = ", ".join(f"{spec.name} {spec.datatype}" for spec in model.outputs)
            raise Unsupported(f"model {model.name!r} gives no floats, and boxes are floats: {told}")

    def place(self, picture: Picture) -> tuple[tuple[Tensor, ...], Placement]:
        """Return the model's inputs for a picture, and where it lies in them."""
        settings, image = self._settings, self.image
        family = FAMILIES[self._choice.layout] if self._choice else UNTIL_THE_ANSWER
        placement = place(picture.width, picture.height, image.width, image.height, settings.placing or family.placing)
        placed = put(picture, placement, antialiased=family.antialiased)
        tensors = image.tensors(
            placed, placement, normalise=settings.normalise or family.normalise,
            channels=settings.channels or family.channels,
        )  # fmt: skip
        return tensors, placement

    def read(
        self, response: InferResponse, placement: Placement, thresholds: Thresholds
    ) -> tuple[Choice, list[Detection]]:
        """Return the layout, and the detections in an answer.

        Raises:
            Unsupported: The answer's shape is of no known family, or of two.
            ProtocolViolation: It is not what the layout says.
        """
        outputs = self._outputs(response)
        choice = self._choice or self._choose({name: array.shape for name, array in outputs.items()})
        if choice is None:
            raise ProtocolViolation(f"model {self._model!r} answered without outputs")
        family = FAMILIES[choice.layout]
        reading = self._reading(choice, family, thresholds)
        with np.errstate(all="ignore"):  # what is not finite is dropped below
            if choice.task == "segment" and prototypes_of(outputs) is not None:
                found = decode_segments(family.decode, outputs, reading)
            else:
                found = family.decode(outputs, reading)
        found = self._kept(found, family, reading, thresholds)
        if choice.guessed:
            _refuse_fractions(self._model, choice, found.boxes)
        names = self._names(choice, outputs)
        return choice, _detections(found, placement, names, choice, family, self._metadata)

    def _choose(self, shapes: Mapping[str, tuple[int, ...]]) -> Choice | None:
        size = self.image.height, self.image.width
        return choose_layout(self._model, shapes, size, self._metadata, self._settings)

    def _outputs(self, response: InferResponse) -> Outputs:
        outputs = {}
        for tensor in response.outputs:
            if tensor.datatype not in _FLOATS:
                continue
            try:
                array = tensor.to_numpy().astype(np.float32, copy=False)
            except InvalidRequest as exc:
                raise ProtocolViolation(f"output {tensor.name!r} of model {self._model!r} is broken: {exc}") from exc
            if without_batch(array.shape, self.image) != array.shape:
                if not len(array):
                    raise ProtocolViolation(f"output {tensor.name!r} of model {self._model!r} is empty")
                array = array[0]
            self._check_shape(tensor.name, array.shape)
            outputs[tensor.name] = array
        if not outputs:
            raise ProtocolViolation(f"model {self._model!r} answered without an output of floats")
        return outputs

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        declared = self._declared.get(name, shape)
        if len(declared) != len(shape) or any(dim not in (-1, size) for dim, size in zip(declared, shape, strict=True)):
            raise ProtocolViolation(
                f"output {name!r} of model {self._model!r} is declared as {list(declared)} and came as {list(shape)}: "
                "correct the model's configuration"
            )

    def _reading(self, choice: Choice, family: Family, thresholds: Thresholds) -> Reading:
        settings = self._settings
        confidence = next(
            each for each in (thresholds.confidence, settings.confidence, family.confidence) if each is not None
        )
        return Reading(
            self.image.height, self.image.width, confidence, settings.max_detections or family.most, choice.classes,
            settings.activation or family.activation, settings.decoded, choice.values,
        )  # fmt: skip

    def _kept(self, found: Candidates, family: Family, reading: Reading, thresholds: Thresholds) -> Candidates:
        settings = self._settings
        sound = np.isfinite(found.boxes).all(axis=1) & (found.classes >= 0)
        if settings.classes is not None:
            sound &= np.isin(found.classes, sorted(settings.classes))
        if not sound.all():
            found = found.at(sound)
        if family.iou is None:
            return found.at(np.arange(min(len(found.scores), reading.most)))
        iou = next(each for each in (thresholds.iou, settings.iou, family.iou) if each is not None)
        return found.at(
            suppress(
                found.boxes, found.scores, found.classes,
                iou=iou, most=reading.most, class_agnostic=settings.class_agnostic,
            )
        )  # fmt: skip

    def _names(self, choice: Choice, outputs: Outputs) -> Mapping[int, str]:
        own = self._settings.class_names or (self._metadata.names if self._metadata else None)
        if own is not None:
            return own
        tables = [array.shape for array in outputs.values() if array.ndim == 2]
        counts: list[int] = []
        if choice.layout == "raw":
            counts = [min(tables[0]) - 4 - choice.values, tables[0][0] - 4 - choice.values]
        elif choice.layout in ("objectness", "yolox"):
            counts = [tables[0][1] - 5]
        elif choice.layout in ("detr", "rfdetr"):
            slots = max(shape[1] for shape in tables)
            counts = [slots - 1] if self._settings.activation == "softmax" else [slots]
        return next((names for count in counts if (names := coco_names(count)) is not None), {})


def _detections(
    found: Candidates, placement: Placement, names: Mapping[int, str], choice: Choice, family: Family,
    metadata: ModelMetadata | None,
) -> list[Detection]:  # fmt: skip
    corners: np.ndarray[Any, Any] = placement.back(found.boxes.reshape(-1, 2, 2))
    if family.clips:
        corners = corners.clip(0, (placement.picture_width, placement.picture_height))
    per_point = metadata.keypoints[1] if metadata and metadata.keypoints else 3
    detections = []
    for index, (x1, y1, x2, y2) in enumerate(corners.reshape(-1, 4).tolist()):
        number, box = int(found.classes[index]), Box(x1, y1, x2, y2)
        posed = choice.task == "pose" and found.extras is not None
        mask = None
        if found.prototypes is not None and found.extras is not None:
            mask = mask_of(found.extras[index], found.prototypes, box, placement)
            if mask.is_empty(found.boxes[index]):
                continue  # a box around nothing: the reference has none of them either
        detections.append(
            Detection(
                class_name=names.get(number, str(number)),
                class_id=number,
                confidence=float(found.scores[index]),
                box=box,
                keypoints=keypoints_of(found.extras[index], per_point, placement) if posed else (),  # type: ignore[index]
                mask=mask,
            )
        )
    return detections


def _refuse_fractions(model: str, choice: Choice, boxes: np.ndarray[Any, Any]) -> None:
    if len(boxes) and boxes.min() >= -0.01 and boxes.max() <= 1.01:
        raise Unsupported(
            f"model {model!r} was read as {choice.layout!r} by {choice.reason}, and all its boxes lie between 0 and 1: "
            "they may be fractions; set layout='rtdetr' for those, or layout='rows' if they are pixels"
        )
