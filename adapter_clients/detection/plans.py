"""The plans for models, made when first needed and believed for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import monotonic
from typing import NamedTuple

from adapter_api import ModelNotFound, WorkerAdapter
from adapter_clients.detection.plan import Plan
from adapter_clients.detection.settings import DetectionSettings

_REMEMBERED = 64


class _Known(NamedTuple):
    plan: Plan
    until: float


class Plans:
    """Asks the engine about each model once a while, however many pictures wait for the answer."""

    def __init__(self, adapter: WorkerAdapter, settings: DetectionSettings) -> None:
        self._adapter = adapter
        self._settings = settings
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking = asyncio.Lock()

    async def get(self, model: str) -> Plan:
        """Return the plan for a model; raises what asking for it came to, or why there can be none."""
        if (found := self._fresh(model)) is not None:
            return found
        async with self._asking:
            if (found := self._fresh(model)) is not None:
                return found
            if model not in self._adapter.named_models:
                self._adapter.named_models |= {model}
            props = await self._adapter.model_props(model)
            if props.ready is False and not props.inputs:
                raise ModelNotFound(
                    f"the engine has no model {model!r} that is loaded; `worker-adapter models` lists them"
                )
            plan = Plan(props, self._settings)
            self._known[model] = _Known(plan, monotonic() + self._settings.model_ttl_s)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return plan

    def forget(self, model: str) -> None:
        """Ask again the next time."""
        self._known.pop(model, None)

    def _fresh(self, model: str) -> Plan | None:
        known = self._known.get(model)
        return known.plan if known is not None and monotonic() < known.until else None
