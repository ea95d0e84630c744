"""One replica as the orchestrator sees it: its adapter, what the probes found, what runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from math import inf

import anyio

from adapter_api import (
    AdapterPlugin,
    Capacity,
    Culprit,
    EngineProps,
    Error,
    HealthReport,
    ModelProps,
    Terminal,
    WorkerAdapter,
    judge,
)
from orchestrator.config.settings import PoolSettings, ReplicaSettings
from orchestrator.pools.hysteresis import TAKES_WORK, Hysteresis
from orchestrator.pools.names import Names
from orchestrator.pools.status import ReplicaStatus
from orchestrator.pools.trust import Teller, Trials, Trust

_LIVES = count(1)


class Replica:
    """State only: `monitor.watch` owns the adapter and writes what probes find, the pool counts tasks in and out."""

    def __init__(
        self,
        pool: PoolSettings,
        settings: ReplicaSettings,
        plugin: AdapterPlugin,
        *,
        environ: Mapping[str, str] | None,
        clock: Callable[[], float],
        tell: Teller,
    ) -> None:
        self.id = settings.id
        self.pool_id = pool.id
        self.settings = settings
        self.plugin = plugin
        self.names = Names(pool.served_as, settings.served_as)
        """What its models are called here; reports and properties have these names."""
        self.environ = environ
        self.adapter: WorkerAdapter | None = None
        self.engine = plugin.name
        self.health = Hysteresis(pool.health)
        self.report: HealthReport | None = None
        self.props: EngineProps | None = None
        self.trust = Trust(pool.id, settings.id, pool.breaker, clock, tell)
        self.life = next(_LIVES)
        """Another number after each time that its engine was out of sight, and for each replica."""
        self.draining = False
        self.in_flight = 0
        self.elsewhere = 0
        """Work of others than this host that its engine had at the last probe, as far as it tells."""
        self.waiting_in_engine: int | None = None
        """Requests that wait in the engine, as its own metrics told last."""
        self.dispatched = 0
        self.failed = 0
        self.retired = anyio.Event()
        """Set when the replica is to go: its watcher closes the adapter."""
        self.probed = anyio.Event()
        """Set after the first probe, good or bad."""
        self.watching = anyio.CancelScope()
        """Around the watcher's work."""
        self.probe_timeout_s = pool.health.timeout_s
        self._probe_interval_s = pool.health.interval_s
        self.named_models = self._asked_about(pool.models)
        self._default_slots = pool.default_slots
        self._known_models: dict[str, set[str]] = {}
        self._model_props: dict[str, ModelProps] = {}
        self._probe_wanted = anyio.Event()
        self._idle: anyio.Event | None = None
        """What those wait for who wait until nothing runs there; made when one does."""

    def create_adapter(self) -> WorkerAdapter:
        """Return a new adapter, not open; raises `ConfigurationError` when its options are wrong."""
        adapter = self.plugin.create(self.settings.adapter_options, environ=self.environ)
        adapter.named_models = self.named_models
        return adapter

    def name_models(self, models: Iterable[str]) -> None:
        """Have the engine asked about these models also where it does not list them."""
        self.named_models = self._asked_about(models)
        if self.adapter is not None:
            self.adapter.named_models = self.named_models

    def _asked_about(self, models: Iterable[str]) -> frozenset[str]:
        """Return the engine's names of the models that the settings name."""
        named = {*models, *self.names.given}
        return frozenset(own for name in named if (own := self.names.own(name)) is not None)

    # -- what it can take ---------------------------------------------------------------------------------------------

    @property
    def engine_version(self) -> str | None:
        return self.props.engine_version if self.props else None

    @property
    def slots(self) -> int:
        """Tasks it may run at once."""
        reported = self.props.slots_total if self.props else None
        return self.settings.slots or reported or self._default_slots

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models it was last known to have."""
        return tuple(sorted(self._known_models))

    def knows(self, name: str) -> bool:
        return name in self._known_models

    @property
    def lists_models(self) -> bool:
        """Whether its engine tells which models it has; else it may have any that it is asked for by name."""
        return self.report is None or (self.report.models_listed and bool(self.report.models))

    def model_props(self, name: str) -> ModelProps | None:
        return self._model_props.get(name)

    def why_no_work(self) -> str:
        """Return why no task of any model may go there now; empty when one may."""
        if self.retired.is_set():
            return "it was removed"
        if self.draining:
            return "it is draining"
        if self.adapter is None or not self.health.takes_work:
            # Degraded and not taking work: it answers, and refuses us.
            state = f"it is {self.health.state}"
            if self.health.state in TAKES_WORK:
                state += " and takes no work"
            return state + (f": {self.health.detail}" if self.health.detail else "")
        if not self.trust.breaker.allows:
            return f"its breaker is open after {self.trust.breaker.reason}"
        return ""

    def opens_in_s(self, model: str) -> float:
        """Seconds until a task of the model may go there, if nothing but time keeps it away; infinite otherwise."""
        if self.retired.is_set() or self.draining or self.adapter is None or not self.health.takes_work:
            return inf
        left_s = self.trust.opens_for_s(model)
        return left_s if left_s > 0 else inf  # also while a breaker's trial runs: its end is told

    def has_model(self, name: str, version: str | None) -> bool:
        """Whether it was last known to have the model; true also when the engine does not tell which it has."""
        if self.names.own(name) is None:
            return False
        if not self._known_models:
            return self.report is not None and self.health.takes_work
        versions = self._known_models.get(name)
        if versions is None and not self.lists_models:
            return self.health.takes_work
        return versions is not None and (version is None or not versions or version in versions)

    def may_have_model(self, name: str, version: str | None) -> bool:
        """Whether nothing tells that it does not have the model: also before it was first reached."""
        if self.names.own(name) is None:
            return False
        versions = self._known_models.get(name)
        if versions is None:
            return not self._known_models or not self.lists_models
        return version is None or not versions or version in versions

    def model_is_ready(self, name: str, version: str | None) -> bool:
        """Whether the last probe found the model ready for work."""
        if self.names.own(name) is None:
            return False
        if self.report is None or not self.report.models:
            return self.report is not None
        if not self.lists_models and all(model.name != name for model in self.report.models):
            return True
        for model in self.report.models:
            if model.name == name and model.ready and version in (None, model.version if model.version else version):
                return True
        return False

    def why_model_is_not_ready(self, name: str, version: str | None) -> str:
        """Return what the last probe said of a model that it did not find ready."""
        found = [m for m in (self.report.models if self.report else ()) if m.name == name]
        found = [m for m in found if version is None or m.version in (None, version)] or found
        if not found:
            return "it does not have the model"
        model = found[0]
        said = ": ".join(filter(None, (model.state, model.reason)))
        return f"version {model.version or version or 'any'} is not ready" + (f" ({said})" if said else "")

    # -- what happens to it -------------------------------------------------------------------------------------------

    def observe(self, report: HealthReport) -> bool:
        """Take a probe in; returns whether the state changed."""
        report = self.report = self.names.health(report)
        if report.models:
            known: dict[str, set[str]] = {}
            for model in report.models:
                known.setdefault(model.name, set()).update({model.version} if model.version else ())
            for props in self.props.models if self.props else ():
                if props.name in known:
                    known[props.name].update(props.versions)
            self._known_models = known
        self.elsewhere = self._elsewhere(report.capacity)
        was_up = self.health.takes_work
        changed = self.health.observe(report)
        if self.health.takes_work and not was_up:
            self.life = next(_LIVES)  # it may have been started anew while nobody could see it
        return changed

    def _elsewhere(self, told: Capacity) -> int:
        busy = 0 if told.slots_total is None or told.slots_free is None else told.slots_total - told.slots_free
        waiting = (self.waiting_in_engine if told.queued is None else told.queued) or 0
        return max(0, busy + waiting - max(told.in_flight, self.in_flight))

    def describe(self, props: EngineProps) -> None:
        """Take in what the engine is."""
        self.props = self.names.props(props)
        self._model_props = {model.name: model for model in reversed(self.props.models)}

    def begin(self, model: str, job_id: str) -> Trials:
        """Count a task in; returns the breakers whose trial it is."""
        self.in_flight += 1
        self.dispatched += 1
        return self.trust.begin(model, job_id)

    def finish(self, trials: Trials) -> None:
        """Count a task out."""
        self.in_flight -= 1
        self.trust.end(trials)
        if self.in_flight == 0:
            self._tell_idle()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.set()

    def learn(self, model: str, outcome: Terminal | None, trials: Trials, *, first: bool) -> None:
        """Learn from how a task ended here; see `Trust.learn`."""
        if isinstance(outcome, Error) and judge(outcome).condemns in (Culprit.MODEL, Culprit.REPLICA):
            self.failed += 1
        if self.trust.learn(model, outcome, trials, first=first):
            self.want_probe()

    async def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no task runs there; returns false when the time is up, or the replica retires, first."""
        with anyio.move_on_after(timeout_s):
            while self.in_flight and not self.retired.is_set():
                idle = self._idle = self._idle or anyio.Event()
                await idle.wait()
        return self.in_flight == 0

    def want_probe(self) -> None:
        """Have it probed now rather than at the end of the interval."""
        self._probe_wanted.set()

    async def wait_for_probe_time(self) -> None:
        """Wait for the interval to pass, or for somebody who wants a probe now."""
        with anyio.move_on_after(self._probe_interval_s):
            await self._probe_wanted.wait()
        self._probe_wanted = anyio.Event()

    def retire(self) -> None:
        """Ask its watcher to close the adapter and end."""
        self.retired.set()
        self._probe_wanted.set()
        self._tell_idle()
        self.watching.cancel()

    def status(self, reason: str) -> ReplicaStatus:
        """Return a snapshot; `reason` is why it gets no work as its pool sees it."""
        told = self.report.capacity if self.report else None
        return ReplicaStatus(
            replica_id=self.id, pool_id=self.pool_id, adapter=self.plugin.name, engine=self.engine,
            engine_version=self.engine_version, state=self.health.state, takes_work=not reason, reason=reason,
            detail=self.health.detail, breaker=self.trust.breaker.state, model_breakers=self.trust.models(),
            draining=self.draining, in_flight=self.in_flight, slots=self.slots, elsewhere=self.elsewhere,
            engine_slots_free=told.slots_free if told else None,
            engine_queued=self.waiting_in_engine if told is None or told.queued is None else told.queued,
            dispatched=self.dispatched,
            failed=self.failed, models=self.models,
            checked_at=self.report.checked_at if self.report else None,
            probe_latency_s=self.report.latency_s if self.report else None,
        )  # fmt: skip
