"""The life of pools and replicas: opened, watched, drained, reloaded, closed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from time import monotonic
from typing import Any, Protocol

import anyio
import anyio.abc
import msgspec

from adapter_api import (
    AdapterClosed,
    AdapterPlugin,
    ConfigurationError,
    HealthReport,
    NotReady,
    PluginHost,
    UnknownAdapter,
)
from adapter_kit.chat_template import Template
from adapter_kit.told_apart import calls_told, thoughts_told
from orchestrator.config.settings import OrchestratorSettings, PoolSettings, ReplicaSettings
from orchestrator.pools.fit import TemplateReader
from orchestrator.pools.monitor import look, watch
from orchestrator.pools.pool import Pool
from orchestrator.pools.replica import Replica
from orchestrator.pools.trust import Teller
from orchestrator.sessions.affinity import Affinity

_log = logging.getLogger("orchestrator.pools.fleet")

RETIRE_GRACE_S = 300.0
"""How long a replica that was taken out of the settings may go on with the tasks it has."""


class HealthListener(Protocol):
    """Told about every probe of a replica in service."""

    def __call__(self, pool: Pool, replica: Replica, report: HealthReport, changed: bool) -> None: ...


MetricsReader = Callable[[Replica, str], Coroutine[Any, Any, None]]
"""Reads a replica's own metrics at a URL, until the replica retires."""


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a drain: `drained` when no task runs, or waits, there any more."""

    pool_id: str
    replica_id: str | None
    drained: bool
    in_flight: int


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changed, as `pool/replica`; replicas whose settings stayed keep running untouched."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    at_next_start: tuple[str, ...] = ()
    """Names of settings that were read, differ from those in force, and take effect when the host is started anew."""


class Fleet:
    """Pools by name, and the watcher of each replica. Replicas that are replaced finish their tasks first."""

    def __init__(
        self,
        settings: OrchestratorSettings,
        plugins: PluginHost,
        affinity: Affinity,
        listener: HealthListener,
        read_metrics: MetricsReader,
        tell: Teller,
        template_of: TemplateReader | None = None,
    ) -> None:
        self.settings = settings
        self.pools: dict[str, Pool] = {}
        self._plugins = plugins
        self._affinity = affinity
        self._listener = listener
        self._read_metrics = read_metrics
        self._tell = tell
        self._template_of = template_of
        self._watchers: anyio.abc.TaskGroup | None = None
        self._watched: set[Replica] = set()
        self._reloading = anyio.Lock()

    async def open(self, watchers: anyio.abc.TaskGroup) -> None:
        """Build all pools, then open their adapters in tasks of `watchers`, and wait for the first probes.

        Raises:
            ConfigurationError: A pool names an adapter there is not, or options that it does not take.
        """
        self.pools = {
            settings.id: self._pool(settings, self._build(settings, settings.replicas))
            for settings in self.settings.pools
        }
        self._watchers = watchers
        for pool in self.pools.values():
            self._watch(pool.replicas.values())
        for pool in self.pools.values():
            await _first_probes(pool.replicas.values(), pool.settings.health.start_wait_s)

    def close(self) -> None:
        """Ask every watcher to end, those of replicas on their way out included."""
        self._watchers = None
        for replica in self._watched:
            replica.retire()

    def require(self, pool_id: str, replica_id: str | None = None) -> Pool:
        """Return the pool; raises `KeyError`, saying which there are, when it or the replica does not exist."""
        pool = self.pools.get(pool_id)
        if pool is None:
            raise KeyError(f"no pool {pool_id!r}; there are {', '.join(self.pools) or 'none'}")
        if replica_id is not None and replica_id not in pool.replicas:
            raise KeyError(f"no replica {replica_id!r} in pool {pool_id!r}; there are {', '.join(pool.replicas)}")
        return pool

    def shadows_of(self, pool_id: str) -> list[PoolSettings]:
        """Return the settings of the pools that shadow a pool."""
        return [pool.settings for pool in self.pools.values() if pool.settings.shadow_of == pool_id]

    # -- drain --------------------------------------------------------------------------------------------------------

    async def drain(self, pool_id: str, replica_id: str | None = None, *, timeout_s: float = 0.0) -> DrainReport:
        """Send nothing new to the pool, or the replica, and wait up to `timeout_s` for what runs there.

        Tasks that wait in the line of a drained pool are served first, as they were accepted.
        """
        pool = self.require(pool_id, replica_id)
        if replica_id is None:
            pool.draining = True
            replicas = list(pool.replicas.values())
        else:
            replicas = [pool.replicas[replica_id]]
            replicas[0].draining = True
            pool.readiness_changed()
        async with anyio.create_task_group() as waiting:
            for replica in replicas:
                waiting.start_soon(replica.wait_until_idle, timeout_s)
        waiting_in_line = len(pool.line) if replica_id is None else 0
        in_flight = sum(replica.in_flight for replica in replicas) + waiting_in_line
        return DrainReport(pool_id=pool_id, replica_id=replica_id, drained=in_flight == 0, in_flight=in_flight)

    def resume(self, pool_id: str, replica_id: str | None = None) -> None:
        """Take a drain back."""
        pool = self.require(pool_id, replica_id)
        if replica_id is None:
            pool.draining = False
            for replica in pool.replicas.values():
                replica.draining = False
        else:
            pool.replicas[replica_id].draining = False
        pool.readiness_changed()

    # -- reload -------------------------------------------------------------------------------------------------------

    async def reload(self, settings: OrchestratorSettings) -> ReloadReport:
        """Go over to new settings, all of them or none.

        Replicas whose settings stayed are kept with their tasks; new ones are opened and probed first, and take over
        together; those that are replaced finish their tasks and close. A pool whose settings change remembers those
        before (`revert`).

        Raises:
            AdapterClosed: The orchestrator is not open, or was closed meanwhile.
            ConfigurationError: The new settings cannot be: nothing was changed.
            NotReady: A pool that takes work now would not: nothing was changed.
        """
        async with self._reloading:
            self._require_open()
            plans = [self._plan(pool_settings) for pool_settings in settings.pools]
            fresh = [replica for plan in plans for replica in plan.fresh]
            try:
                for plan in plans:
                    self._watch(plan.fresh)
                for plan in plans:
                    await _first_probes(plan.fresh, plan.settings.health.start_wait_s)
                    if plan.pool is not None and plan.pool.ready and not plan.stage.ready:
                        reason = plan.stage.why_not_ready()
                        raise NotReady(f"pool {plan.settings.id!r} would take no work ({reason}); nothing was changed")
                self._require_open()
            except BaseException:
                for replica in fresh:
                    replica.retire()
                raise
            return self._apply(settings, plans)

    def settings_before(self, pool_id: str) -> OrchestratorSettings:
        """Return settings with those that a pool had before its last reload.

        Raises:
            ConfigurationError: There was none.
        """
        pool = self.require(pool_id)
        if pool.previous is None:
            raise ConfigurationError(f"pool {pool_id!r} was never reloaded: there is nothing to go back to")
        previous = pool.previous
        pools = tuple(previous if each.id == pool_id else each for each in self.settings.pools)
        return self.settings.model_copy(update={"pools": pools})

    def _plan(self, settings: PoolSettings) -> _Plan:
        pool = self.pools.get(settings.id)
        kept: dict[str, Replica] = {}
        if pool is not None and _treat_alike(pool.settings, settings):
            wanted = {replica.id: replica for replica in settings.replicas}
            kept = {id: old for id, old in pool.replicas.items() if id in wanted and _same(old, wanted[id])}
        fresh = self._build(settings, [replica for replica in settings.replicas if replica.id not in kept])
        by_id = {**kept, **{replica.id: replica for replica in fresh}}
        stage = self._pool(settings, [by_id[replica.id] for replica in settings.replicas])
        return _Plan(settings, pool, stage, fresh)

    def _apply(self, settings: OrchestratorSettings, plans: list[_Plan]) -> ReloadReport:
        assert self._watchers is not None
        before = {(pool.id, replica.id): replica for pool in self.pools.values() for replica in pool.replicas.values()}
        pools: dict[str, Pool] = {}
        for plan in plans:
            pools[plan.settings.id] = plan.stage if plan.pool is None else plan.pool
            if plan.pool is not None:
                plan.pool.template = plan.stage.template  # its file may say something else than it did
                if plan.pool.settings != plan.settings:
                    plan.pool.replace(plan.settings, plan.stage.replicas.values())
        gone = [pool for pool in self.pools.values() if pool.id not in pools]
        for pool in gone:
            pool.draining = True
        was, self.pools, self.settings = self.pools, pools, settings
        after = {(pool.id, replica.id): replica for pool in pools.values() for replica in pool.replicas.values()}
        removed = [name for name, replica in before.items() if after.get(name) is not replica]
        for pool_id, replica_id in removed:
            self._watchers.start_soon(_finish_and_close, was[pool_id], before[pool_id, replica_id])
        added = [name for name, replica in after.items() if before.get(name) is not replica]
        kept = [name for name, replica in after.items() if before.get(name) is replica]
        return ReloadReport(added=_join(added), removed=_join(removed), kept=_join(kept))

    def _require_open(self) -> None:
        if self._watchers is None:
            raise AdapterClosed("the orchestrator is closed: there is nothing to reload")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _pool(self, settings: PoolSettings, replicas: Iterable[Replica]) -> Pool:
        template = self._template(settings)
        if settings.chat_template is not None and template is not None:
            _tell_how_calls_are_told(settings, template)
        return Pool(settings, replicas, self._affinity, template)

    def _template(self, settings: PoolSettings) -> Template | None:
        if self._template_of is None:
            return None
        try:
            return self._template_of(settings.chat_template, settings.chat_template_kwargs)
        except ConfigurationError as exc:
            raise ConfigurationError(f"pool {settings.id!r}, chat_template: {exc.message}") from exc

    def _build(self, pool: PoolSettings, wanted: Iterable[ReplicaSettings]) -> list[Replica]:
        environ: Mapping[str, str] | None = os.environ if self.settings.read_environment else None
        replicas = []
        for settings in wanted:
            plugin = plugin_for(self._plugins, pool, settings)
            replica = Replica(pool, settings, plugin, environ=environ, clock=monotonic, tell=self._tell)
            replica.create_adapter()  # so that wrong options are told now, not by a watcher later
            replicas.append(replica)
        return replicas

    def _watch(self, replicas: Iterable[Replica]) -> None:
        assert self._watchers is not None
        for replica in replicas:
            self._watched.add(replica)
            self._watchers.start_soon(self._watch_one, replica)
            if replica.settings.metrics_url is not None:
                self._watchers.start_soon(self._read_metrics, replica, replica.settings.metrics_url)

    async def _watch_one(self, replica: Replica) -> None:
        try:
            await watch(replica, self._on_probe)
        finally:
            self._watched.discard(replica)

    async def look_at(self, replica: Replica) -> None:
        """Find out at once how a replica is, and which models it has: somebody just changed them."""
        if replica.adapter is not None:
            await look(replica, replica.adapter, self._on_probe)

    def _on_probe(self, replica: Replica, report: HealthReport, changed: bool) -> None:
        pool = self.pools.get(replica.pool_id)
        if pool is None or pool.replicas.get(replica.id) is not replica:
            return  # not in service: being tried for a reload, or on its way out
        pool.readiness_changed()  # that of a model, or a breaker's time is up, though the replica's state is the same
        self._listener(pool, replica, report, changed)


class _Plan:
    """One pool of a reload: what it is to become, tried out beside what it is."""

    def __init__(self, settings: PoolSettings, pool: Pool | None, stage: Pool, fresh: list[Replica]) -> None:
        self.settings = settings
        self.pool = pool
        self.stage = stage
        self.fresh = fresh


async def _first_probes(replicas: Iterable[Replica], timeout_s: float) -> None:
    with anyio.move_on_after(timeout_s):
        for replica in replicas:
            await replica.probed.wait()


async def _finish_and_close(pool: Pool, replica: Replica) -> None:
    await replica.wait_until_idle(RETIRE_GRACE_S)
    replica.retire()
    pool.readiness_changed()  # nobody watches a pool that is gone, and tasks may wait there still
    _log.info("replica %s/%s left with %d tasks running", replica.pool_id, replica.id, replica.in_flight)


def _same(replica: Replica, settings: ReplicaSettings) -> bool:
    return replica.settings == settings and not replica.retired.is_set()


def _treat_alike(one: PoolSettings, other: PoolSettings) -> bool:
    """Whether both pools run and watch a replica of the same settings in the same way."""
    return (one.adapter, one.health, one.breaker, one.default_slots, one.served_as) == (
        other.adapter, other.health, other.breaker, other.default_slots, other.served_as,
    )  # fmt: skip


def _tell_how_calls_are_told(pool: PoolSettings, template: Template) -> None:
    calls = calls_told(pool.tool_parser, template)
    tell = _log.info if calls.advice is None else _log.warning
    tell("pool %s: tool calls in its models' text are read as %s", pool.id, calls)
    _log.info("pool %s: thoughts in its models' text are read as %s", pool.id,
              thoughts_told(pool.reasoning_parser, template))  # fmt: skip


def plugin_for(plugins: PluginHost, pool: PoolSettings, replica: ReplicaSettings) -> AdapterPlugin:
    """Return the adapter that a replica's settings mean: the one that they name, or that serves the URL's scheme.

    Raises:
        ConfigurationError: There is no such adapter, or several serve the scheme and none is named.
    """
    named = replica.adapter or pool.adapter
    if named is not None:
        return plugins.adapter(named)
    place = f"replica {replica.id!r} of pool {pool.id!r}"
    found = plugins.adapters_for_url(replica.url or "")
    if len(found) > 1:
        names = [adapter.name for adapter in found]
        raise UnknownAdapter(
            f"{place}: several adapters serve URLs like its own: {', '.join(names)}; say which one speaks to this "
            f'engine, as in adapter = "{names[0]}"'
        )
    try:
        return plugins.adapter_for_url(replica.url or "")
    except UnknownAdapter as exc:
        raise UnknownAdapter(f"{place}: {exc.message}") from exc


def _join(names: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{pool_id}/{replica_id}" for pool_id, replica_id in names)
