"""The act with a picture: drawn here, looked at by a detector, said what is where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_api import EngineProps, WorkerAdapter

if TYPE_CHECKING:
    import numpy as np

    from adapter_clients import DetectionResult

DRAWN = (("red", 0, (40, 60, 200, 160)), ("green", 1, (300, 100, 420, 300)), ("blue", 2, (480, 320, 600, 440)))
"""Name, channel and box of what is in the picture."""
_SIZE = 480, 640
_CONFIDENCE = 0.5


def detector_of(props: EngineProps) -> str | None:
    """Return the name of a model that says of itself that it detects; `None` if there is none."""
    return next((model.name for model in props.models if model.metadata and "'detect'" in model.metadata), None)


async def look_at_drawing(adapter: WorkerAdapter, model: str) -> DetectionResult:
    """Return what the model finds in the picture; raises the contract's errors."""
    from adapter_clients import DetectionClient, DetectionSettings

    settings = DetectionSettings.make(model=model, confidence=_CONFIDENCE)
    return await DetectionClient(adapter, settings).detect(_drawing())


def _drawing() -> np.ndarray[Any, np.dtype[np.uint8]]:
    import numpy as np

    pixels = np.zeros((*_SIZE, 3), np.uint8)
    for _, channel, (x1, y1, x2, y2) in DRAWN:
        pixels[y1:y2, x1:x2, channel] = 255
    return pixels
