"""What was found in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from adapter_clients.detection.masks import Mask


class Box(NamedTuple):
    """A box in pixels of the upright picture: `x1`, `y1` left and top, `x2`, `y2` right and bottom, from its corner."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1


class Keypoint(NamedTuple):
    """A point of a pose in pixels of the upright picture; `confidence` is `None` where the model has none."""

    x: float
    y: float
    confidence: float | None


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """One thing: what it is, how sure the model is (0 to 1), and where. Pose models add points, others a mask."""

    class_name: str
    class_id: int
    confidence: float
    box: Box
    keypoints: tuple[Keypoint, ...] = ()
    mask: Mask | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it; without the mask, whose pixels are asked for by `mask.to_array()`."""
        found: dict[str, Any] = {
            "class_name": self.class_name,
            "class_id": self.class_id,
            "confidence": self.confidence,
            "box": list(self.box),
        }
        if self.keypoints:
            found["keypoints"] = [list(point) for point in self.keypoints]
        return found


class DetectionTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time went, in seconds: reading the picture, placing it into the tensor, the engine (with repetitions
    and their pauses), decoding its answer, and all together."""

    read_s: float
    place_s: float
    infer_s: float
    decode_s: float
    total_s: float


class DetectionResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one picture holds, surest first unless the model orders by itself.

    width, height: of the upright picture, in pixels.
    layout: the family of the model's output; layout_reason: what that was told by.
    attempts: how often it was sent.
    """

    detections: list[Detection]
    width: int
    height: int
    model: str
    model_version: str | None
    layout: str
    layout_reason: str
    attempts: int
    timings: DetectionTimings

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        fields = ("model", "model_version", "width", "height", "layout", "layout_reason", "attempts")
        return {
            **{name: getattr(self, name) for name in fields},
            "detections": [each.document() for each in self.detections],
            "timings": msgspec.to_builtins(self.timings),
        }
