"""Asking engines about a model's configuration, and having them load and unload models."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from adapter_api import AdapterClosed, AdapterError, ModelNotFound, NotReady, Unsupported, WorkerAdapter
from orchestrator.pools.fleet import Fleet
from orchestrator.pools.pool_choice import ServingPools
from orchestrator.pools.replica import Replica
from orchestrator.pools.told import tell_of_model

_log = logging.getLogger("orchestrator.pools.model_control")

_ASKED_AT_MOST = 2
"""Replicas that are asked for one configuration: they are to be alike."""
_NOT_THERE = (ModelNotFound, Unsupported)
"""What an engine answers that the call is no affair of, when others are there that it is."""


class ModelControl:
    """The `Orchestrator`'s methods of the same names say what is guaranteed."""

    def __init__(self, fleet: Fleet, serving: ServingPools) -> None:
        self._fleet = fleet
        self._serving = serving

    async def model_config(self, model: str, version: str | None) -> dict[str, Any]:
        failed: AdapterError | None = None
        asked = self._serving.that_may_have(model, version)[:_ASKED_AT_MOST]
        for replica in asked:
            own = replica.names.own(model)
            try:
                if own is not None:
                    return {**await _adapter(replica).model_config(own, version), "name": model}
            except AdapterError as exc:
                failed = failed or exc
        if failed is not None:
            raise tell_of_model(failed, model, asked)
        raise NotReady(f"no replica that has model {model!r} can be asked for its configuration now")

    async def load_model(self, model: str, config: str | None, files: Mapping[str, bytes]) -> None:
        await self._everywhere(model, "load", lambda adapter, own: adapter.load_model(own, config=config, files=files))

    async def unload_model(self, model: str, *, dependents: bool) -> None:
        await self._everywhere(model, "unload", lambda adapter, own: adapter.unload_model(own, dependents=dependents))

    async def _everywhere(self, model: str, what: str, call: Callable[[WorkerAdapter, str], Awaitable[None]]) -> None:
        """Do the same at every replica whose pool may serve the model, side by side."""
        replicas = [
            replica
            for pool in self._serving
            if pool.may_serve(model)
            for replica in pool.replicas.values()
            if replica.names.own(model) is not None
        ]
        failed: dict[Replica, AdapterError] = {}

        async def one(replica: Replica) -> None:
            try:
                await call(_adapter(replica), replica.names.own(model) or model)
            except AdapterError as exc:
                failed[replica] = exc
                _log.warning("replica %s/%s did not %s a model: %s", replica.pool_id, replica.id, what, exc.message)
            else:
                _log.info("replica %s/%s did %s model %r", replica.pool_id, replica.id, what, model)
            await self._fleet.look_at(replica)  # also after a failure: a load that fails leaves the model unloaded

        async with anyio.create_task_group() as group:
            for replica in replicas:
                group.start_soon(one, replica)
        if not replicas:
            raise ModelNotFound(f"no pool may serve a model {model!r}: pools.models lists those that they may")
        told = min(failed.values(), key=_telling, default=None)
        done = len(replicas) - len(failed)
        if told is None or (done and isinstance(told, _NOT_THERE)):
            return
        if done:
            told.message += f"; {done} of {len(replicas)} replicas did it"
        raise tell_of_model(told, model, replicas)


def _adapter(replica: Replica) -> WorkerAdapter:
    if replica.adapter is None:
        raise AdapterClosed(f"replica {replica.id!r} cannot be reached now", retryable=True)
    return replica.adapter


def _telling(error: AdapterError) -> int:
    """Return how little an error says beside others: most is said by the one of an engine that tried."""
    return 2 if isinstance(error, Unsupported) else 1 if isinstance(error, ModelNotFound) else 0
