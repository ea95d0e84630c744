"""What was found in a picture."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_clients.detection.boxes import Box, Keypoint
from adapter_clients.detection.masks import Mask


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
