"""The successor: a detector in Triton, seen through the detection client."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import adapter_api as api
from adapter_clients import DetectionClient
from detection_adapters.pictures import PictureAdapter


class DetectorSettings(BaseModel):
    """`detection` holds settings of `adapter_clients.DetectionSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "grpc://127.0.0.1:8001"
    model: str = "colours"
    detection: dict[str, Any] = Field(default_factory=dict)


class DetectorAdapter(PictureAdapter):
    engine = "detector"

    def __init__(self, settings: DetectorSettings) -> None:
        self.model = settings.model
        self._client = DetectionClient.connect(settings.url, model=settings.model, **settings.detection)

    async def _open(self) -> None:
        await self._client.__aenter__()

    async def _close(self) -> None:
        await self._client.aclose()

    async def _look(self, picture: bytes) -> list[dict[str, Any]]:
        result = await self._client.detect(picture)
        return [each.document() for each in result.detections]

    async def _health(self, *, canary: bool) -> api.HealthReport:
        ready = await self._client.is_healthy()
        return self._report(ready=ready, detail="" if ready else f"Triton has no model {self.model!r} that is ready")
