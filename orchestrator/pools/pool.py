"""A pool: replicas that serve the same models, and the line of tasks that wait for one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import inf
from time import perf_counter

from adapter_api import (
    AdapterError,
    Culprit,
    DeadlineExceeded,
    Error,
    InvalidRequest,
    NotReady,
    Overloaded,
    TaskRequest,
    Terminal,
    Unsupported,
    judge,
)
from adapter_kit.chat_template import Template, place_of
from adapter_kit.special_tokens import keeping_marks
from adapter_kit.told_apart import calls_told, thoughts_told
from orchestrator.config.settings import PoolSettings
from orchestrator.pools.admission import WaitingLine
from orchestrator.pools.claim import Claim
from orchestrator.pools.demand import Demand, takes_no, unsupported
from orchestrator.pools.fit import fit, named_for
from orchestrator.pools.prompts import Prompts, Unmade
from orchestrator.pools.replica import Replica
from orchestrator.pools.routing import Candidate, choose_replica
from orchestrator.pools.status import PoolStatus
from orchestrator.sessions.affinity import Affinity, Place

_SMOOTHING = 0.2


class Pool:
    """Gives each task a slot of a replica, or a place in the line; all in the event loop, nothing here waits but
    `grant`."""

    def __init__(
        self,
        settings: PoolSettings,
        replicas: Iterable[Replica],
        affinity: Affinity,
        template: Template | None = None,
    ) -> None:
        self.settings = settings
        self.id = settings.id
        self.replicas = {replica.id: replica for replica in replicas}
        self.template = template
        self.draining = False
        self.previous: PoolSettings | None = None
        """The settings before the last reload, to go back to."""
        self.line: WaitingLine[Claim] = WaitingLine(settings.queue, settings.id)
        self._affinity = affinity
        self._pinned_version: str | None = None
        self._mean_task_s: float | None = None

    # -- what it serves -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the pool takes new tasks, and a replica is ready for them."""
        return not self.draining and self._can_serve

    @property
    def models(self) -> tuple[str, ...]:
        """The models that replicas were last known to have, as far as the settings let them be served; those of the
        settings when a replica cannot tell."""
        found = {model for replica in self.replicas.values() for model in replica.models}
        if not self.settings.models:
            return tuple(sorted(found))
        told = all(replica.models for replica in self.replicas.values())
        return tuple(sorted(found & set(self.settings.models) if told else self.settings.models))

    @property
    def models_not_ready(self) -> tuple[str, ...]:
        """Those of `models` that no replica which takes work has ready; none where one cannot tell which it has."""
        ready: set[str] = set()
        for replica in self.replicas.values():
            if self.why_no_work(replica) or replica.report is None:
                continue
            if not replica.report.models or not replica.lists_models:
                return ()
            ready.update(model.name for model in replica.report.models if model.ready)
        return tuple(name for name in self.models if name not in ready)

    @property
    def seen(self) -> bool:
        """Whether any replica has ever told which models it has."""
        return any(replica.models for replica in self.replicas.values())

    def has_model(self, name: str, version: str | None) -> bool:
        """Whether a replica was last known to have the model."""
        if self.may_serve(name):
            for replica in self.replicas.values():
                if replica.has_model(name, version):
                    return True
        return False

    def knows(self, name: str) -> bool:
        """Whether it is one of `models`; cheap, however many there are."""
        if self.may_serve(name):
            for replica in self.replicas.values():
                if replica.knows(name):
                    return True
        return False

    def may_serve(self, name: str) -> bool:
        """Whether the settings let the model be served here."""
        return not self.settings.models or name in self.settings.models

    @property
    def models_missing(self) -> tuple[str, ...]:
        """The models of the settings that no replica has; none while a replica has not told, or cannot tell, which it
        has."""
        wanted, replicas = self.settings.models, self.replicas.values()
        if not wanted or not all(replica.models and replica.lists_models for replica in replicas):
            return ()
        return tuple(name for name in wanted if not any(replica.knows(name) for replica in replicas))

    def why_no_work(self, replica: Replica) -> str:
        """Return why `replica` gets no new task now; empty when it may get one."""
        return "its pool is draining" if self.draining else self._why_not_served_by(replica)

    def _why_not_served_by(self, replica: Replica) -> str:
        """Also of a draining pool, which still serves the tasks that wait in its line."""
        reason = replica.why_no_work()
        is_pinned = self.settings.engine_version is not None or self._pinned_version is not None
        if not reason and is_pinned and self._pin() not in (None, replica.engine_version):
            return f"it runs {replica.engine_version}, and the pool is pinned to {self._pinned_version}"
        return reason

    def suits(self, demand: Demand) -> bool:
        """Whether a replica's model is known to be capable of what is asked, or may be."""
        for replica in self._with_model(demand):
            if not self._unmet(demand, replica):
                return True
        return False

    def _with_model(self, demand: Demand) -> list[Replica]:
        """Return the replicas that are known to have the model, or may have it; all of them if there is none."""
        replicas = list(self.replicas.values())
        if len(replicas) == 1:
            return replicas
        return [each for each in replicas if each.may_have_model(demand.model, demand.model_version)] or replicas

    def _unmet(self, demand: Demand, replica: Replica) -> tuple[str, ...]:
        return demand.unmet(replica.model_props(demand.model), self.template, replica.plugin.capabilities)

    async def fit(self, task: TaskRequest, replica: Replica, prompts: Prompts) -> TaskRequest:
        """Return the task as the replica's model takes it, by the template that is in force when this returns.

        Raises:
            AdapterError: As `fit.fit` does.
        """
        while True:
            try:
                return self._fit(task, replica, prompts)
            except Unmade as unmade:
                await prompts.make(unmade.template)

    async def make_prompt(self, task: TaskRequest, prompts: Prompts) -> None:
        """Make the prompt that `check` looks at, where that takes longer than the event loop may stand still."""
        while True:
            try:
                return self.check(task, prompts)
            except Unmade as unmade:
                await prompts.make(unmade.template)

    def check(self, task: TaskRequest, prompts: Prompts) -> None:
        """Refuse a task that no replica's model could take.

        Raises:
            InvalidRequest, Unsupported: That is so.
            Unmade: It takes a prompt to know, which is still to be made.
        """
        most = None if task.max_tokens is None else self._most_tokens(task.model)
        if task.max_tokens is not None and most is not None and task.max_tokens > most:
            raise InvalidRequest(
                f"max_tokens is {task.max_tokens} and model {task.model!r} takes at most {most}; ask for fewer"
            )
        refusal: AdapterError | None = None
        for replica in self.replicas.values():
            try:
                self._fit(task, replica, prompts)
                return
            except AdapterError as exc:
                refusal = exc
        if refusal is not None:
            raise refusal

    def _most_tokens(self, model: str) -> int | None:
        """Return the `max_tokens` above which no replica takes a task of the model; `None` where one takes any number,
        or may."""
        most: int | None = None
        for replica in self.replicas.values():
            if replica.has_model(model, None) or not replica.models:  # one that was never reached may have it
                props = replica.model_props(model)
                if props is None or props.max_tokens is None:
                    return None
                most = props.max_tokens if most is None else max(most, props.max_tokens)
        return most

    def _fit(self, task: TaskRequest, replica: Replica, prompts: Prompts) -> TaskRequest:
        props = replica.model_props(task.model)
        fitted = fit(task, props, self.settings, self.template, prompts)
        fitted = keeping_marks(
            task,
            named_for(fitted, replica.plugin.name),
            namespace=replica.plugin.name,
            dialect=None if props is None else props.dialect,
            calls=self.settings.tool_parser,
            thoughts=self.settings.reasoning_parser,
            template=self.template,
        )
        own = replica.names.own(task.model)
        return fitted if own in (None, task.model) else fitted.model_copy(update={"model": own})

    # -- admission ----------------------------------------------------------------------------------------------------

    def admit(self, claim: Claim) -> None:
        """Give the claim a slot, or a place in the line.

        Raises:
            Overloaded: Neither is free; `retry_after_s` says when to try again.
            NotReady: The pool is draining.
            Unsupported: No replica's model is capable of what the claim asks.
        """
        if self.draining:
            raise NotReady(f"pool {self.id!r} is draining and takes no new task; send it elsewhere or later")
        if not self.suits(claim.demand):
            raise self._unsupported(claim.demand)
        self.serve()  # a breaker's time may be up: those who wait go first
        if self._place(claim):
            return
        priority = claim.work.priority
        dropped = self.line.join(claim, priority, retry_after_s=self.predict_s(len(self.line)))
        claim.queue_position = self.line.ahead_of_last(priority)
        predicted_s = self.predict_s(claim.queue_position)
        claim.predicted_start_ms = None if predicted_s is None else predicted_s * 1e3
        if dropped is not None:
            reason = (
                f"newer tasks drove this one out of the full queue of pool {self.id!r} (pools.queue.limit, and "
                'pools.queue.policy = "drop-lru"); try again later'
            )
            dropped.refuse(Overloaded(reason, retry_after_s=predicted_s))

    async def grant(self, claim: Claim) -> Replica:
        """Return the replica whose slot the claim holds, as soon as it holds one.

        Raises:
            DeadlineExceeded: It waited `queue.timeout_s`; stage `queue`.
            Overloaded: It waited for as long as whoever submitted it allows, or was driven out of the line.
            NotReady: No replica had its model ready for `queue.not_ready_wait_s`.
        """
        while claim.replica is None:
            claim.raise_refusal()
            left = self._waits_until(claim) - perf_counter()
            if left <= 0:
                self.line.leave(claim, claim.work.priority)
                raise self._waited_in_vain(claim)
            # Nobody tells when a breaker's time is up, or that of a model that was overloaded.
            model = claim.work.model
            opens_in_s = min((replica.opens_in_s(model) for replica in self.replicas.values()), default=inf)
            if not await claim.wait(min(left, opens_in_s)) and claim.replica is None:
                self.serve()
        return claim.replica

    def rejoin(self, claim: Claim) -> None:
        """Give a claim that gave its slot back another one, or the first place in the line."""
        claim.waiting_since, claim.unready_since = perf_counter(), None
        if not self._place(claim):
            self.line.rejoin(claim, claim.work.priority)

    def release(self, claim: Claim) -> None:
        """Take the claim's slot, or its place in the line, away; the next one gets it."""
        replica, claim.replica = claim.replica, None
        if replica is None:
            self.line.leave(claim, claim.work.priority)
            return
        replica.finish(claim.trials)
        claim.trials = ()
        self.serve()

    def serve(self) -> None:
        """Give free slots to those who wait. Call it whenever a slot may have become free."""
        hopeless: set[Demand] = set()

        def place(claim: Claim) -> bool:
            # Once per demand: a thousand that wait for a model that is not loaded must not be asked one by one.
            if claim.demand in hopeless:
                return False
            if not any(replica.in_flight < replica.slots for replica in self._able(claim.demand)):
                hopeless.add(claim.demand)
                return False
            return self._place(claim)

        while self.line and self._has_free_slot() and self.line.serve(place) is not None:
            pass

    def readiness_changed(self) -> None:
        """Call it when replicas or models may be ready that were not, or the other way round: those who wait for them
        look anew at how long they may."""
        self.serve()
        ready: dict[Demand, bool] = {}
        for claim in self.line:
            demand = claim.demand
            if demand not in ready:
                ready[demand] = self.is_ready_for(demand)
            if ready[demand] != (claim.unready_since is None) or self._is_gone:
                claim.wake()

    def is_ready_for(self, demand: Demand) -> bool:
        """Whether a replica takes work and has the model ready and capable of it, trusted or not."""
        return any(
            not self._why_not_served_by(replica)
            and replica.model_is_ready(demand.model, demand.model_version)
            and not self._unmet(demand, replica)
            for replica in self.replicas.values()
        )

    @property
    def has_room(self) -> bool:
        """Whether one more piece of work would find a slot, or a place in the line."""
        return self._has_free_slot() or len(self.line) < self.settings.queue.limit

    def has_slot_at(self, replica_id: str) -> bool:
        """Whether a replica is there, takes work, and has a free slot."""
        replica = self.replicas.get(replica_id)
        return replica is not None and replica.in_flight < replica.slots and not self.why_no_work(replica)

    def has_other(self, claim: Claim) -> bool:
        """Whether a replica that the claim need not avoid takes work."""
        return bool(self._able(claim.demand, claim.avoid))

    def learn(self, claim: Claim, outcome: Terminal | None) -> None:
        """Let the replica that a claim holds learn from how its task ended there; `None` when that tells nothing."""
        replica = claim.replica
        assert replica is not None
        replica.learn(claim.work.model, outcome, claim.trials, first=not claim.condemned)
        if isinstance(outcome, Error) and judge(outcome).condemns is Culprit.MODEL:
            claim.condemned = True

    def trusts(self, model: str) -> bool:
        """Whether a replica takes work, and the model works there as far as is known."""
        return any(not self._why_not_served_by(r) and r.trust.trusts(model) for r in self.replicas.values())

    # -- changes ------------------------------------------------------------------------------------------------------

    def replace(self, settings: PoolSettings, replicas: Iterable[Replica]) -> None:
        """Take new settings and replicas at once; tasks at replicas that are gone finish there."""
        self.previous, self.settings = self.settings, settings
        self.replicas = {replica.id: replica for replica in replicas}
        for replica in self.replicas.values():
            replica.name_models(settings.models)
        self.line.settings = settings.queue
        self._pinned_version = None
        self.serve()
        for claim in self.line:
            claim.wake()

    # -- figures ------------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Slots of the replicas that take work."""
        return sum(replica.slots for replica in self.replicas.values() if not self._why_not_served_by(replica))

    def observe_task_s(self, seconds: float) -> None:
        """Learn how long a task held its slot."""
        before = self._mean_task_s
        self._mean_task_s = seconds if before is None else before + _SMOOTHING * (seconds - before)

    def predict_s(self, ahead: int) -> float | None:
        """Return the seconds until a slot is free for one with `ahead` tasks before it; `None` when nothing is known.

        All slots are taken and tasks take as long as they lately did: then slots become free at an even pace.
        """
        slots = self.slots
        return None if self._mean_task_s is None or not slots else (ahead + 1) * self._mean_task_s / slots

    def status(self) -> PoolStatus:
        replicas = tuple(replica.status(self.why_no_work(replica)) for replica in self.replicas.values())
        settings = self.settings
        template = None if settings.chat_template is None else self.template
        shown = None if settings.chat_template is None else place_of(settings.chat_template) or "in the settings"
        return PoolStatus(
            pool_id=self.id, ready=any(r.takes_work for r in replicas), draining=self.draining,
            weight=self.settings.weight, models=self.models, models_not_ready=self.models_not_ready,
            queue_depth=len(self.line),
            queue_interactive=self.line.depth("interactive"), queue_batch=self.line.depth("batch"),
            queue_limit=self.settings.queue.limit, in_flight=sum(r.in_flight for r in replicas), slots=self.slots,
            mean_task_s=self._mean_task_s, engine_version=self._pinned_version, chat_template=shown,
            tool_calls=None if template is None else str(calls_told(settings.tool_parser, template)),
            thoughts=None if template is None else str(thoughts_told(settings.reasoning_parser, template)),
            replicas=replicas,
        )  # fmt: skip

    def why_not_ready(self) -> str:
        """Return each replica with the reason why it gets no work."""
        return "; ".join(f"{replica.id}: {self._why_not_served_by(replica)}" for replica in self.replicas.values())

    @property
    def _can_serve(self) -> bool:
        return any(not self._why_not_served_by(replica) for replica in self.replicas.values())

    # -- inside -------------------------------------------------------------------------------------------------------

    def _able(self, demand: Demand, avoid: Collection[str] = ()) -> list[Replica]:
        """Return the replicas that a task may go to: those where its model is trusted, or the others if none is.

        A breaker of a model only steers. Where it is open everywhere nothing is won by refusing the model's tasks, and
        all that a client must do to open it is to send tasks that fail.
        """
        model = demand.model
        able = []
        for replica in self.replicas.values():
            if (
                replica.id not in avoid
                and not self._why_not_served_by(replica)
                and replica.model_is_ready(model, demand.model_version)
                and not replica.trust.rests(model)
                and not self._unmet(demand, replica)
            ):
                able.append(replica)
        if len(able) < 2:
            return able
        able = [replica for replica in able if replica.trust.trusts(model)] or able
        return [each for each in able if not demand.is_doubtful(each.model_props(model))] or able

    def _place(self, claim: Claim) -> bool:
        session = claim.session
        place = self._affinity.place_of(session) if session else None
        # With its pool: replicas of different pools may have the same id, and none of each other's cache.
        known = place.replica_id if place is not None and place.pool_id == self.id else None
        able = self._able(claim.demand, claim.avoid)
        if claim.bound and place is not None:
            able = [replica for replica in able if replica.id == known]
        if len(able) == 1 and able[0].in_flight < able[0].slots:
            chosen: str | None = able[0].id
        else:
            chosen = choose_replica([Candidate(r.id, r.in_flight, r.slots, r.elsewhere) for r in able], preferred=known)
        if chosen is None:
            return False
        replica = self.replicas[chosen]
        claim.trials = replica.begin(claim.work.model, claim.work.job_id)
        claim.replica = claim.served_by = replica
        claim.granted_at = claim.granted_at or perf_counter()
        if session:
            here = Place(self.id, chosen, replica.life)
            claim.kv_warmth = place == here
            self._affinity.remember(session, here)
        claim.wake()
        return True

    def _has_free_slot(self) -> bool:
        return any(r.in_flight < r.slots and not self._why_not_served_by(r) for r in self.replicas.values())

    def _waits_until(self, claim: Claim) -> float:
        queue = self.settings.queue
        longest = claim.waiting_since + min(queue.timeout_s, inf if (own := claim.queue_timeout_s) is None else own)
        if self.is_ready_for(claim.demand):
            claim.unready_since = None
            return longest
        if self._is_gone:
            return 0.0
        # From when it was last ready, not from the last change: a replica or model that flaps without ever being ready
        # must not prolong the wait.
        if claim.unready_since is None:
            claim.unready_since = perf_counter()
        return min(longest, claim.unready_since + queue.not_ready_wait_s)

    @property
    def _is_gone(self) -> bool:
        """Whether a reload took the pool away: nothing can come of waiting."""
        return all(replica.retired.is_set() for replica in self.replicas.values())

    def _unsupported(self, demand: Demand) -> Unsupported:
        lacking = {each.id: self._unmet(demand, each) for each in self._with_model(demand)}
        return unsupported(self.settings, demand, lacking)

    def _waited_in_vain(self, claim: Claim) -> Exception:
        if not self._can_serve:
            return NotReady(f"no replica of pool {self.id!r} is ready ({self.why_not_ready()}); try again later")
        model = claim.work.model
        if not self.is_ready_for(claim.demand):
            reasons = "; ".join(
                f"{replica.id}: {self._why_not_for(claim.demand, replica)}" for replica in self.replicas.values()
            )
            return NotReady(
                f"model {model!r} is not ready on any replica of pool {self.id!r} ({reasons}); load it, or try again "
                "later"
            )
        if not self._able(claim.demand):
            return Overloaded(f"every replica of pool {self.id!r} has too much to do for model {model!r}")
        if claim.queue_timeout_s is not None and claim.queue_timeout_s < self.settings.queue.timeout_s:
            return Overloaded(
                f"Request timeout expired: no slot of pool {self.id!r} became free within the "
                f"{claim.queue_timeout_s * 1e6:.0f} us that the request let itself be queued for"
            )
        return DeadlineExceeded(
            f"no slot of pool {self.id!r} became free within {self.settings.queue.timeout_s:g} s "
            "(pools.queue.timeout_s)",
            stage="queue",
        )

    def _why_not_for(self, demand: Demand, replica: Replica) -> str:
        if reason := self._why_not_served_by(replica):
            return reason
        if replica.model_is_ready(demand.model, demand.model_version) and (lacking := self._unmet(demand, replica)):
            return takes_no(lacking, "it")
        return replica.why_model_is_not_ready(demand.model, demand.model_version)

    def _pin(self) -> str | None:
        wanted = self.settings.engine_version
        if wanted == "first":
            # Once no replica has it any more, as after an upgrade of them all, there is nothing to mix it with.
            versions = {replica.engine_version for replica in self.replicas.values()}
            if self._pinned_version not in versions - {None}:
                up = (r for r in self.replicas.values() if r.health.takes_work and r.engine_version is not None)
                first = next(up, None)
                self._pinned_version = first.engine_version if first else None
        elif wanted not in (None, "first"):
            self._pinned_version = wanted
        return self._pinned_version
