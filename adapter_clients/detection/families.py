"""For each family of layouts: its decoder, and what models of it expect where no setting says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from adapter_clients.detection.decoders.candidates import Decoder
from adapter_clients.detection.decoders.detr import decode_detr
from adapter_clients.detection.decoders.objectness import decode_objectness
from adapter_clients.detection.decoders.raw import decode_raw
from adapter_clients.detection.decoders.rows import decode_rows
from adapter_clients.detection.decoders.rtdetr import decode_rtdetr
from adapter_clients.detection.decoders.yolox import decode_yolox
from adapter_clients.detection.placing import Placing
from adapter_clients.detection.settings import Layout


class Family(NamedTuple):
    """`iou` is `None` where nothing is suppressed; `clips` whether boxes end at the picture's edge, `in_pixels` whether
    the model gives them so, and not as fractions of its input."""

    decode: Decoder
    placing: Placing = "letterbox"
    normalise: Literal["unit", "imagenet", "none"] = "unit"
    channels: Literal["rgb", "bgr"] = "rgb"
    antialiased: bool = False
    confidence: float = 0.25
    iou: float | None = None
    most: int = 300
    clips: bool = True
    in_pixels: bool = True
    activation: Literal["sigmoid", "softmax"] | None = None


FAMILIES: Mapping[Layout, Family] = MappingProxyType(
    {
        "raw": Family(decode_raw, iou=0.7),
        "rows": Family(decode_rows),
        "objectness": Family(decode_objectness, iou=0.45, most=1000),
        "yolox": Family(decode_yolox, "corner", "none", "bgr", iou=0.45, most=1000),
        "rtdetr": Family(decode_rtdetr, "stretch", clips=False, in_pixels=False),
        "rfdetr": Family(
            decode_detr, "stretch", "imagenet", antialiased=True, confidence=0.5, clips=False,
            in_pixels=False, activation="sigmoid",
        ),
        "detr": Family(
            decode_detr, "stretch", antialiased=True, confidence=0.5, clips=False, in_pixels=False,
            activation="sigmoid",
        ),
    }
)  # fmt: skip

UNTIL_THE_ANSWER = FAMILIES["raw"]
"""How a picture is sent to a model whose answer must tell its layout: what is not letterboxed is known before."""
