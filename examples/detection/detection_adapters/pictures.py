"""What both adapters share: a task is one picture, and its answer one JSON text."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import Any

import adapter_api as api
from detection_adapters.plugin import CAPABILITIES


class PictureAdapter(api.WorkerAdapter):
    """Implement `_look`; the model's name is the task's."""

    model: str

    @abstractmethod
    async def _look(self, picture: bytes) -> list[dict[str, Any]]:
        """Return what is in an encoded picture: of each `class_name`, `confidence`, `box` (x1 y1 x2 y2 in pixels)."""

    async def _submit(self, task: api.TaskRequest) -> AsyncGenerator[api.TokenEvent]:
        if missing := task.needs - CAPABILITIES:
            raise api.Unsupported(f"a detector cannot take {', '.join(sorted(missing))}")
        if task.model != self.model:
            raise api.ModelNotFound(f"there is no model {task.model!r} here, only {self.model!r}")
        if len(task.images) != 1:
            raise api.InvalidRequest(f"a task for a detector brings one picture, and this one {len(task.images)}")
        yield api.Started(job_id=task.job_id, engine=self.engine, engine_version=None, model=task.model)
        found = await self._look(task.images[0].content)
        yield api.Token(0, json.dumps({"detections": found}))
        yield api.End(finish_reason="stop")

    async def _props(self) -> api.EngineProps:
        models = (api.ModelProps(name=self.model, ready=True, capabilities=CAPABILITIES),)
        return api.EngineProps(engine=self.engine, capabilities=CAPABILITIES, models=models)

    def _report(self, *, ready: bool, detail: str = "") -> api.HealthReport:
        return api.HealthReport(
            state=api.HealthState.READY if ready else api.HealthState.UNREACHABLE, live=ready, ready=ready,
            models=(api.ModelHealth(name=self.model, ready=ready),), detail=detail,
        )  # fmt: skip
