"""What models are called: by the host's clients, and by the engine that has them. No I/O.

Everything in the host speaks of a model by its public name; the engine's own is used where the engine is asked, and
nowhere else. So one name can go to engines that call the model differently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

import msgspec

from adapter_api import EngineProps, HealthReport, ModelHealth, ModelProps

M = TypeVar("M", ModelHealth, ModelProps)
ServedAs = Mapping[str, tuple[str, ...]]
"""The public names of an engine's models, by the engine's own names."""


class Names:
    """The names at one engine. A model that is given names has only these; the others keep their own, unless another
    model was given it."""

    def __init__(self, pool: ServedAs, replica: ServedAs) -> None:
        """Take the names that a pool gives, and those of the replica, which win."""
        self._own = {name: model for model, names in pool.items() if model not in replica for name in names}
        self._own |= {name: model for model, names in replica.items() for name in names}
        self._renamed = frozenset(pool) | frozenset(replica)

    @property
    def given(self) -> Mapping[str, str]:
        """The engine's name of each model that was given a name, by that name."""
        return self._own

    @property
    def by_own(self) -> Mapping[str, str]:
        """One name here of each engine's model that does not have its own name here; empty for one that has none."""
        given = {own: next(iter(self.public(own)), "") for own in (*self._renamed, *self._own)}
        return {own: name for own, name in given.items() if name != own}

    def own(self, public: str) -> str | None:
        """Return what the engine calls a model; `None` when nothing there is offered under that name."""
        return self._own.get(public) or (None if public in self._renamed else public)

    def public(self, own: str) -> tuple[str, ...]:
        """Return the names under which an engine's model is offered."""
        if own in self._renamed:
            return tuple(name for name, model in self._own.items() if model == own)
        return () if own in self._own else (own,)

    def health(self, report: HealthReport) -> HealthReport:
        """Return an engine's report with its models called as they are offered."""
        if not self._renamed:
            return report
        return msgspec.structs.replace(report, models=tuple(self._models(report.models)))

    def props(self, props: EngineProps) -> EngineProps:
        """Return what an engine is with its models called as they are offered."""
        if not self._renamed:
            return props
        return msgspec.structs.replace(props, models=tuple(self._models(props.models)))

    def unknown(self, models: Collection[str]) -> tuple[str, ...]:
        """Return the models, by the engine's names, that have a name here and are not among those that it has."""
        return tuple(sorted({model for model in self._own.values() if model not in models}))

    def _models(self, models: tuple[M, ...]) -> Iterator[M]:
        for model in models:
            for name in self.public(model.name):
                yield msgspec.structs.replace(model, name=name)
