"""Finding things in pictures, with any detector that a server has.

`client` sends pictures, `plan` joins what is done for one model: `inputs` and `placing` bring a picture in, `layouts`
tells the family of the output, `families` what goes with it, `decoders` read it, `suppression` thins it out.
"""

from adapter_clients.detection.blocking import SyncDetectionClient
from adapter_clients.detection.boxes import Box, Keypoint
from adapter_clients.detection.client import DetectionClient
from adapter_clients.detection.masks import Mask
from adapter_clients.detection.results import Detection, DetectionResult, DetectionTimings
from adapter_clients.detection.settings import DetectionSettings

__all__ = [
    "Box", "Detection", "DetectionClient", "DetectionResult", "DetectionSettings", "DetectionTimings", "Keypoint",
    "Mask", "SyncDetectionClient",
]  # fmt: skip
