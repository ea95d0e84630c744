"""Which models are registered: those that the engine calls ready, as long as it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from adapter_api import AdapterError, HealthReport, HealthState, ModelProps, WorkerAdapter
from dynamo_worker.asking import InFlight
from dynamo_worker.cards import TellsConfig, differs, endpoint_name, faces_of, takes_tensors, takes_text, tensor_config
from dynamo_worker.handlers import Handler, TensorHandler, TextHandler

_log = logging.getLogger("dynamo_worker")
_MISSES = 2
"""Looks in a row at which an engine must not answer before its models go, or discovery not know of us: one may be lost.
"""
_LOOKS_PER_DESCRIPTION = 5
_HANDLERS: Mapping[str, type[Handler]] = {"tensor": TensorHandler, "text": TextHandler}
_AT_ONCE = 8
"""Models whose registration is begun at once: each takes a watch of discovery."""


class Registered(NamedTuple):
    """What discovery has of an endpoint.

    ours: whether our own registration is there.
    others: of each other worker, whether it came before us, and its tensors.
    """

    ours: bool
    others: Sequence[tuple[bool, Mapping[str, Any]]]


class Registry(Protocol):
    """What is used of a `Cluster`."""

    @property
    def lost(self) -> asyncio.Event: ...

    def serve(self, name: str, handler: Handler) -> None: ...
    async def publish_tensors(self, name: str, model: str, config: Mapping[str, Any]) -> None: ...
    async def publish_text(
        self, name: str, model: str, *, chat: bool, completions: bool, tensors: Mapping[str, Any]
    ) -> None: ...
    async def withdraw(self, name: str) -> None: ...
    async def look_up(self, name: str, *, expected: bool) -> Registered: ...
    def say_healthy(self, healthy: bool) -> None: ...
    def exception(self, code: str, message: str) -> Exception: ...


class _Served(msgspec.Struct):
    """An endpoint of ours. It is served to the end once it was; only its card comes and goes."""

    model: str
    kind: str
    handler: Handler
    config: dict[str, Any] = {}
    published: bool = False


class Follower:
    """Looks at the engine and registers accordingly."""

    def __init__(
        self, adapter: WorkerAdapter, cluster: Registry, *, models: frozenset[str] = frozenset(), face: str = "both"
    ) -> None:
        self._adapter, self._cluster, self._models = adapter, cluster, models
        self._served: dict[str, _Served] = {}
        self._known: dict[str, ModelProps] = {}
        self._looks = self._misses = self._forgotten = 0
        self._seen_there = False
        self.in_flight = InFlight()
        self._face = face
        self._told: dict[str, str] = {}
        adapter.named_models = adapter.named_models | models

    @property
    def published(self) -> frozenset[tuple[str, str]]:
        """Models that frontends are told of now, each with `tensor` or `text`."""
        return frozenset((each.model, each.kind) for each in self._served.values() if each.published)

    async def look(self) -> None:
        """Look once. Never raises for what the engine or the cluster does: the next look tries again."""
        report = await self._adapter.health()
        self._cluster.say_healthy(report.ready)
        ready = self._ready(report)
        if ready is None:
            return
        fresh = self._looks % _LOOKS_PER_DESCRIPTION == 0
        self._looks += 1
        for model in sorted(self._known.keys() - ready):
            await self._drop(model, report.detail or "the engine does not call it ready")
        for model in sorted(ready):
            if fresh or model not in self._known:
                await self._describe(model)
        known = [self._known[model] for model in sorted(ready & self._known.keys())]
        for at in range(0, len(known), _AT_ONCE):
            await asyncio.gather(*map(self._register, known[at : at + _AT_ONCE]))
        if known:
            await self._look_again(known[self._looks % len(known)])

    async def leave(self) -> None:
        """Withdraw every model; what runs goes on."""
        for model in sorted(self._known):
            await self._drop(model, "this worker is stopping")

    def _ready(self, report: HealthReport) -> frozenset[str] | None:
        """Return the models to be served; `None` to leave all as it is."""
        if report.state is HealthState.UNREACHABLE:
            self._misses += 1
            return None if self._misses < _MISSES else frozenset()
        self._misses = 0
        if not report.ready:
            return frozenset()
        ready = frozenset(model.name for model in report.models if model.ready)
        for model in sorted(self._models - ready):
            self._say(model, f"model {model!r} is not ready in the engine; it is registered as soon as it is")
        return ready & self._models if self._models else ready

    async def _describe(self, model: str) -> None:
        try:
            props = await self._adapter.model_props(model)
            serialized = None
            if self._has(props, "tensor") and isinstance(self._adapter, TellsConfig):
                serialized = await self._adapter.serialized_config(model)
        except AdapterError as exc:
            self._say(model, f"model {model!r} cannot be described, and is not registered: {exc.message}")
            return
        self._known[model] = props
        # Both cards of a model tell of the same tensors: frontends look at either.
        config = tensor_config(props, serialized) if self._has(props, "tensor") else {}
        for kind, handler_class in _HANDLERS.items():
            if self._has(props, kind):
                served = self._serve(props, kind, handler_class)
                if served.config != config and served.published:
                    await self._withdraw(served, "its configuration changed")
                served.config = config

    def _has(self, props: ModelProps, kind: str) -> bool:
        return self._face in ("both", kind) and (takes_tensors(props) if kind == "tensor" else takes_text(props))

    def _serve(self, props: ModelProps, kind: str, handler_class: type[Handler]) -> _Served:
        name = endpoint_name(props.name, kind)
        served = self._served.get(name)
        if served is None:
            handler = handler_class(self._adapter, props, self._cluster.exception, self.in_flight)
            served = self._served[name] = _Served(props.name, kind, handler)
            self._cluster.serve(name, handler)
        served.handler.model = props
        return served

    async def _register(self, props: ModelProps) -> None:
        waiting = [each for each in self._cards_of(props) if not each.published]
        if not waiting:
            return
        first = waiting[0]
        found = await self._cluster.look_up(endpoint_name(first.model, first.kind), expected=False)
        if conflict := self._conflict(first, found):
            self._say(props.name, f"model {props.name!r} is not registered: {conflict}")
            return
        for served in waiting:
            await self._publish(served, props)

    async def _look_again(self, props: ModelProps) -> None:
        """Withdraw a model that another worker had registered otherwise at the same time: one model per look."""
        published = [each for each in self._cards_of(props) if each.published]
        if not published:
            return
        found = await self._cluster.look_up(endpoint_name(props.name, published[0].kind), expected=True)
        self._seen_there |= found.ours
        self._forgotten = 0 if found.ours or not self._seen_there else self._forgotten + 1
        if self._forgotten >= _MISSES:
            # By files, Dynamo does not register anew a worker that was stopped for longer than its heartbeat.
            self._say("discovery", "discovery has forgotten this worker")
            self._cluster.lost.set()
        elif conflict := self._conflict(published[0], found):
            for served in published:
                await self._withdraw(served, conflict)

    def _cards_of(self, props: ModelProps) -> list[_Served]:
        names = [endpoint_name(props.name, kind) for kind in _HANDLERS if self._has(props, kind)]
        return [self._served[name] for name in names if name in self._served]

    def _conflict(self, served: _Served, found: Registered) -> str:
        """Return why the model must not be registered, or an empty text. Frontends would send to both by turns."""
        for before_us, config in found.others if served.kind == "tensor" else ():
            if differs(served.config, config) and (before_us or not served.published):
                return (
                    "another worker serves that name with other inputs or outputs; "
                    "give them the same model, or another namespace (--namespace, DYN_NAMESPACE)"
                )
        return ""

    async def _publish(self, served: _Served, props: ModelProps) -> None:
        name = endpoint_name(served.model, served.kind)
        try:
            if served.kind == "tensor":
                await self._cluster.publish_tensors(name, served.model, served.config)
            else:
                chat, completions = faces_of(props)
                await self._cluster.publish_text(
                    name, served.model, chat=chat, completions=completions, tensors=served.config
                )
        except Exception as exc:  # whatever Dynamo raises
            self._say(name, f"model {served.model!r} could not be registered ({served.kind}), and will be again: {exc}")
            return
        served.published = True
        self._told.pop(name, None)
        self._told.pop(served.model, None)
        _log.info("model %r is registered (%s)", served.model, served.kind)

    async def _drop(self, model: str, why: str) -> None:
        self._known.pop(model, None)
        for served in self._served.values():
            if served.model == model and served.published:
                await self._withdraw(served, why)

    async def _withdraw(self, served: _Served, why: str) -> None:
        try:
            await self._cluster.withdraw(endpoint_name(served.model, served.kind))
        except Exception as exc:  # whatever Dynamo raises
            _log.warning("model %r could not be withdrawn (%s): %s", served.model, served.kind, exc)
        served.published = False
        _log.warning("model %r is withdrawn (%s): %s", served.model, served.kind, why)

    def _say(self, about: str, text: str) -> None:
        if self._told.get(about) != text:
            self._told[about] = text
            _log.warning("%s", text)
