"""The detection service of before: a picture by POST, and its own form of answer."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from anyio import to_thread
from pydantic import BaseModel, ConfigDict

import adapter_api as api
from detection_adapters.pictures import PictureAdapter

TIMEOUT_S = 30.0
LONGEST_ANSWER = 1 << 20


class OldDetectorSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "http://127.0.0.1:7008"
    model: str = "colours"


class OldDetectorAdapter(PictureAdapter):
    engine = "old-detector"

    def __init__(self, settings: OldDetectorSettings) -> None:
        self.model = settings.model
        self._url = settings.url.rstrip("/")

    async def _look(self, picture: bytes) -> list[dict[str, Any]]:
        answer = json.loads(await self._ask("/detect", picture))
        return [
            {
                "class_name": each["label"],
                "confidence": each["score"],
                "box": [each["x"], each["y"], each["x"] + each["w"], each["y"] + each["h"]],
            }
            for each in answer["objects"]
        ]

    async def _health(self, *, canary: bool) -> api.HealthReport:
        try:
            await self._ask("/health", None)
        except api.AdapterError as exc:
            return self._report(ready=False, detail=exc.message)
        return self._report(ready=True)

    async def _ask(self, path: str, body: bytes | None) -> bytes:
        return await to_thread.run_sync(_fetch, self._url + path, body, abandon_on_cancel=True)


def _fetch(url: str, body: bytes | None) -> bytes:
    try:
        with urlopen(Request(url, data=body), timeout=TIMEOUT_S) as response:
            found: bytes = response.read(LONGEST_ANSWER)
            return found
    except HTTPError as exc:
        with exc:
            if exc.code == 400:
                raise api.InvalidRequest("the old detector cannot read the picture") from exc
            raise api.EngineFailed(f"the old detector answered {exc.code}") from exc
    except OSError as exc:
        raise api.ConnectFailed(f"no old detector answers at {url}; start it") from exc
