"""The pools that serve, taken together: which models there are, and which pool a task goes to."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from adapter_api import AdapterError, Capability, ModelNotFound, ModelProps, NotReady
from adapter_kit.told_apart import calls_told, thoughts_told
from orchestrator.config.settings import PoolSettings
from orchestrator.pools.claim import Work
from orchestrator.pools.demand import Demand, offered
from orchestrator.pools.fleet import Fleet
from orchestrator.pools.pool import Pool
from orchestrator.pools.replica import Replica
from orchestrator.pools.routing import choose_pool
from orchestrator.pools.status import PoolParsers
from orchestrator.pools.ticket import Ticket
from orchestrator.sessions.affinity import Affinity, SessionKey

_ASKED_AT_MOST = 2
"""Replicas that are asked for a model that nobody lists: a name is soon made up, and each costs a call."""

_PROMISES = frozenset({
    Capability.STREAMING, Capability.CANCEL_HARD, Capability.USAGE, Capability.FINISH_REASON, Capability.SHARED_MEMORY,
})  # fmt: skip
"""Capabilities that no task asks for: what holds for it depends on where it goes."""


class ServingPools:
    """The pools whose answers are shown; those of shadows are not among them."""

    def __init__(self, fleet: Fleet, affinity: Affinity) -> None:
        self._fleet = fleet
        self._affinity = affinity

    def __iter__(self) -> Iterator[Pool]:
        return (pool for pool in self._fleet.pools.values() if pool.settings.shadow_of is None)

    @property
    def ready(self) -> bool:
        """Whether any pool takes work."""
        return any(pool.ready for pool in self)

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that replicas were last known to have."""
        return tuple(sorted({model for pool in self for model in pool.models}))

    def may_have(self, model: str) -> bool:
        """Whether a pool is chosen for work for the model."""
        return bool(self._with_model(model, None))

    def model_props(self, model: str, version: str | None = None) -> tuple[PoolSettings, ModelProps] | None:
        """Return what replicas told of a model, with the settings of the pool whose tensors these are; `None` when none
        told anything.

        Its tensors are those of a replica that gets work for it now, if one does. It is capable of what a task may ask
        for where any replica that gets tasks is, for each goes to one that is. What no task asks for, as a hard cancel,
        must hold at all of them, and is uncertain otherwise.
        """
        told = self._told(model, version)
        if not told:
            return None
        pool = next((pool for pool, props in told if props.inputs), told[0][0])
        return pool.settings, _joined([props for _, props in told])

    def offer(self, model: str) -> ModelProps | None:
        """Return what `model_props` does, with what the pools make of a model: what can be asked of this host."""
        told = [offered(props, pool.settings, pool.template) for pool, props in self._told(model)]
        return _joined(told) if told else None

    def parsers(self, model: str) -> tuple[PoolParsers, ...]:
        """Return how each pool that has a model that takes text tells calls and thoughts from what it writes."""
        return tuple(
            PoolParsers(
                pool_id=pool.id,
                tool_parser=calls_told(pool.settings.tool_parser, pool.template).name,
                reasoning_parser=thoughts_told(pool.settings.reasoning_parser, pool.template).name,
            )
            for pool in self
            if pool.may_serve(model)
            and any(
                (props := replica.model_props(model)) is not None and Capability.TEXT in props.capabilities
                for replica in pool.replicas.values()
            )
        )

    def _told(self, model: str, version: str | None = None) -> list[tuple[Pool, ModelProps]]:
        """Return what each replica told that gets work for the model, those that may get it now first."""
        told = [
            (pool, replica, props)
            for pool in self
            if pool.may_serve(model)
            for replica in pool.replicas.values()
            if (props := replica.model_props(model)) is not None
            and (version is None or not props.versions or version in props.versions)
        ]
        told = [each for each in told if each[0].settings.weight] or told
        if len(told) > 1:
            told.sort(key=lambda each: _is_idle(each[0], each[1], model, version))
        return [(pool, props) for pool, _, props in told]

    async def ask_for(self, model: str) -> ModelProps | None:
        """Return what an engine that does not list its models tells of one, asked for by its name.

        `None` when no such engine could be asked; raises `ModelNotFound` when those asked do not have it.
        """
        asked = [
            (replica.adapter, own)
            for pool in self
            if pool.may_serve(model)
            for replica in pool.replicas.values()
            if replica.adapter is not None
            and not replica.lists_models
            and (own := replica.names.own(model)) is not None
        ]
        absent: ModelNotFound | None = None
        for adapter, own in asked[:_ASKED_AT_MOST]:
            try:
                return msgspec.structs.replace(await adapter.model_props(own), name=model)
            except ModelNotFound as exc:
                absent = exc
            except AdapterError:
                continue
        if absent is not None:
            raise absent
        return None

    def that_may_have(self, model: str, version: str | None = None) -> list[Replica]:
        """Return the replicas that can be asked about a model; those that have it ready for work come first."""
        found = [
            (pool, replica)
            for pool in self._with_model(model, version)
            for replica in pool.replicas.values()
            if replica.adapter is not None and replica.may_have_model(model, version)
        ]
        # Also one without weight can tell, if no other does.
        found.sort(key=lambda each: (not each[0].settings.weight, _is_idle(each[0], each[1], model, version)))
        return [replica for _, replica in found]

    def model_is_ready(self, model: str, version: str | None) -> bool:
        """Whether a replica takes work for the model now."""
        return any(
            pool.may_serve(model)
            and any(
                not pool.why_no_work(replica)
                and replica.has_model(model, version)
                and replica.model_is_ready(model, version)
                for replica in pool.replicas.values()
            )
            for pool in self
        )

    def choose(self, work: Work, demand: Demand, session: SessionKey | None, *, bound: bool) -> Pool:
        """Return the pool that gets the work, of those that have its model.

        That is the one whose replica served the session last, while that replica has a free slot (or always, if the
        work is `bound` to it); else one by weight, among those that have the model ready and that the work suits, if
        there is one.

        Raises:
            ModelNotFound: No pool has the model.
            NotReady: Every pool that has it has weight 0.
        """
        pools = self._with_model(work.model, work.model_version)
        if not pools:
            raise self._no_such_model(work)
        place = self._affinity.place_of(session) if session is not None else None
        holder = next((pool for pool in pools if place is not None and pool.id == place.pool_id), None)
        if bound and holder is not None:
            return holder
        if len(pools) == 1 and pools[0].settings.weight:
            return pools[0]  # ready or not: there is no other
        pools = [pool for pool in pools if pool.settings.weight and pool.suits(demand)] or pools
        # A pool of weight 0 gets nothing, also when it alone is ready: tasks wait for the others then.
        able = [pool for pool in pools if pool.ready and pool.settings.weight]
        able = [pool for pool in able if pool.is_ready_for(demand)] or able
        able = [pool for pool in able if pool.trusts(work.model)] or able or pools
        if place is not None and holder in able and holder.settings.weight and holder.has_slot_at(place.replica_id):
            return holder
        chosen = choose_pool([(pool.id, pool.settings.weight) for pool in able], work.session_id or work.job_id)
        if chosen is None:
            raise NotReady(f"every pool that serves model {work.model!r} has weight 0; give one some weight")
        return self._fleet.pools[chosen]

    def other_for(self, ticket: Ticket) -> Pool | None:
        """Return another pool for what its own cannot run: one by weight that takes it now; `None` if none does."""
        if not ticket.may_leave:
            return None
        demand = ticket.demand
        able = [
            pool
            for pool in self._with_model(demand.model, demand.model_version)
            if pool is not ticket.pool
            and pool.id not in ticket.pools_left
            and pool.settings.weight
            and pool.ready
            and pool.is_ready_for(demand)
            and pool.trusts(demand.model)
            and pool.has_room
        ]
        chosen = choose_pool([(pool.id, pool.settings.weight) for pool in able], ticket.work.job_id) if able else None
        return None if chosen is None else self._fleet.pools[chosen]

    def _with_model(self, model: str, version: str | None) -> list[Pool]:
        # A pool whose engines were never reached may have it: better "not ready" than "no such model".
        return [pool for pool in self if pool.has_model(model, version)] or [
            pool for pool in self if not pool.seen and pool.may_serve(model)
        ]

    def _no_such_model(self, work: Work) -> ModelNotFound:
        known = self.models()
        if work.model in known:
            return ModelNotFound(f"model {work.model!r} has no version {work.model_version!r} on any replica")
        return ModelNotFound(f"no replica has a model {work.model!r}; there are {', '.join(known) or 'none'}")


def _is_idle(pool: Pool, replica: Replica, model: str, version: str | None) -> bool:
    """Whether a replica gets no work for the model now."""
    return bool(pool.why_no_work(replica)) or not replica.model_is_ready(model, version)


def _joined(told: list[ModelProps]) -> ModelProps:
    """Return what a model can do wherever it runs."""
    if len(told) == 1:
        return told[0]
    anywhere = frozenset().union(*(props.capabilities for props in told))
    everywhere = told[0].capabilities.intersection(*(props.capabilities for props in told[1:]))
    capabilities = (anywhere - _PROMISES) | everywhere
    modes = {props.cancel_mode for props in told}
    limits = [props.max_tokens for props in told]
    return msgspec.structs.replace(
        next((props for props in told if props.inputs), told[0]),
        versions=tuple(dict.fromkeys(version for props in told for version in props.versions)),
        capabilities=capabilities,
        uncertain=anywhere.union(*(props.uncertain for props in told)) - capabilities,
        cancel_mode=modes.pop() if len(modes) == 1 else None,
        max_tokens=None if None in limits else max(limit for limit in limits if limit is not None),
    )
