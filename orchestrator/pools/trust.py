"""What a replica's failures came to: who is left alone there, the replica as a whole or one of its models.

Nothing that a client can cause takes a replica from the others: `adapter_api.judgement` says whom an error condemns. A
condemned model only steers: its tasks go to other replicas while one of them can take them, and here when none can.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from adapter_api import Culprit, End, PermissionDenied, Terminal, Unauthenticated, judge
from orchestrator.config.settings import BreakerSettings
from orchestrator.pools.breaker import Breaker, BreakerState
from orchestrator.pools.status import ModelBreakerStatus

MODELS_AT_MOST = 256
"""Models that are remembered at a replica for having failed; clients name models, so there must be an end to it."""
OVERLOAD_REST_S = 0.5
"""How long a model gets nothing new at a replica that said `overloaded` without saying for how long."""
LONGEST_REST_S = 60.0
"""How long it gets nothing new at most, whatever the engine says."""

Trials = tuple[Breaker, ...]
"""The breakers whose trial a task is."""

_REFUSALS = frozenset({Unauthenticated.code, PermissionDenied.code})
"""After these the engine is asked something before a task is risked."""


class Teller(Protocol):
    """Logs and counts a change of what tasks meet; `observability.changes.Changes.tell` is one."""

    def __call__(
        self, change: str, text: str, *, level: int = ..., pool_id: str = ..., replica_id: str = ..., **more: str
    ) -> None: ...


class _Model:
    """One model at the replica."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.rests_until = 0.0


class Trust:
    """Learns from how tasks end at one replica."""

    def __init__(
        self, pool_id: str, replica_id: str, settings: BreakerSettings, clock: Callable[[], float], tell: Teller
    ) -> None:
        self.breaker = Breaker(settings, clock)
        """The replica's own."""
        self._pool_id, self._replica_id = pool_id, replica_id
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._models: OrderedDict[str, _Model] = OrderedDict()
        """Only those with something to remember."""

    # -- asked before a task goes there -------------------------------------------------------------------------------

    def trusts(self, model: str) -> bool:
        """Whether the model works there as far as is known, or is to be tried again."""
        known = self._models.get(model)
        return known is None or known.breaker.allows

    def rests(self, model: str) -> bool:
        """Whether the engine said that the model has too much to do."""
        known = self._models.get(model)
        return known is not None and self._clock() < known.rests_until

    def opens_for_s(self, model: str) -> float:
        """Seconds until a task of the model may go there, as far as only time keeps it away; 0 when it may go now."""
        known = self._models.get(model)
        if known is None:
            return self.breaker.opens_for_s
        return max(self.breaker.opens_for_s, known.breaker.opens_for_s, known.rests_until - self._clock())

    @property
    def wants_question(self) -> bool:
        """Whether a trial waits for the engine to be asked something that costs no task."""
        return self.breaker.wants_question or any(known.breaker.wants_question for known in self._models.values())

    def answered(self) -> None:
        """Take in that the engine answered such a question."""
        for breaker in (self.breaker, *(known.breaker for known in self._models.values())):
            if breaker.wants_question:
                breaker.answered()

    # -- told what happens --------------------------------------------------------------------------------------------

    def begin(self, model: str, job_id: str) -> Trials:
        """Count a task in; returns the breakers whose trial it is."""
        known = self._models.get(model)
        breakers = (self.breaker,) if known is None else (self.breaker, known.breaker)
        trials: Trials = ()
        for breaker in breakers:
            if breaker.begin():
                trials = (*trials, breaker)
        for breaker in trials:
            if breaker.state is BreakerState.OPEN:
                continue  # for want of any other place: nothing has changed
            whom = self._whom(None if breaker is self.breaker else model)
            self._say("breaker_half_open", logging.INFO, model, f"job {job_id} tries {whom} again")
        return trials

    def end(self, trials: Trials) -> None:
        """Count a task out."""
        for breaker in trials:
            breaker.trial_over()

    def learn(self, model: str, outcome: Terminal | None, trials: Trials = (), *, first: bool = True) -> bool:
        """Learn from how a task ended; returns whether that is a reason to probe the replica now.

        Args:
            model: The model it ran on.
            outcome: Its terminal; `None` when it was cut short, which tells nothing.
            trials: What `begin` returned.
            first: Whether it has not failed elsewhere before: one task condemns at most one replica at once.
        """
        if isinstance(outcome, End):
            if outcome.finish_reason != "cancelled":
                self._succeeded(model, trials)
            return False
        if outcome is None:
            return False
        judgement = judge(outcome)
        if judgement.condemns is Culprit.NOBODY and outcome.code == "overloaded":
            self._rest(model, outcome.retry_after_s)
        if judgement.condemns in (Culprit.NOBODY, Culprit.TASK):
            return outcome.code == "not_ready"
        whole = judgement.condemns is Culprit.REPLICA
        breaker = self.breaker if whole else self._remember(model).breaker
        at_once = judgement.condemns_at_once(outcome) and first
        if breaker.failed(outcome.code, trial=breaker in trials, at_once=at_once, ask_first=outcome.code in _REFUSALS):
            others = "" if whole else " while another can take it"
            self._say(
                "breaker_open", logging.WARNING, model,
                f"{self._whom(None if whole else model)} gets no task for {breaker.opens_for_s:.3g} s{others}, after "
                f"{breaker.reason}: {outcome.message}", code=outcome.code,
            )  # fmt: skip
        if not whole and outcome.code == "engine_failed" and self.breaker in trials:
            self._close(self.breaker, None, model)  # the engine answered: the way to it works
        return True

    def models(self) -> tuple[ModelBreakerStatus, ...]:
        """Return the models that are left alone, or rest, with the reasons."""
        found = []
        for name, known in sorted(self._models.items()):
            rest_s = max(0.0, known.rests_until - self._clock())
            state = known.breaker.state
            if state is BreakerState.CLOSED and not rest_s:
                continue
            reason = f"its breaker is {state.replace('_', ' ')} after {known.breaker.reason}"
            if state is BreakerState.CLOSED:
                reason = "the engine said that it is overloaded"
            found.append(
                ModelBreakerStatus(
                    model=name, breaker=state, reason=reason, opens_in_s=max(rest_s, known.breaker.opens_for_s)
                )
            )
        return tuple(found)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _succeeded(self, model: str, trials: Trials) -> None:
        self._close(self.breaker, None, model, trial=self.breaker in trials)
        known = self._models.get(model)
        if known is None:
            return
        self._close(known.breaker, model, model, trial=known.breaker in trials)
        if known.breaker.is_clean and known.rests_until <= self._clock():
            del self._models[model]

    def _close(self, breaker: Breaker, whose: str | None, model: str, *, trial: bool = True) -> None:
        if breaker.succeeded(trial=trial):
            self._say("breaker_closed", logging.INFO, model, f"{self._whom(whose)} works and gets tasks again")

    def _rest(self, model: str, retry_after_s: float | None) -> None:
        wait_s = OVERLOAD_REST_S if retry_after_s is None else min(retry_after_s, LONGEST_REST_S)
        self._remember(model).rests_until = self._clock() + wait_s

    def _remember(self, model: str) -> _Model:
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model(Breaker(self._settings, self._clock))
            if len(self._models) > MODELS_AT_MOST:
                self._models.popitem(last=False)
        self._models.move_to_end(model)
        return known

    def _whom(self, model: str | None) -> str:
        replica = f"replica {self._pool_id}/{self._replica_id}"
        return replica if model is None else f"model {model!r} at {replica}"

    def _say(self, change: str, level: int, model: str, text: str, **more: str) -> None:
        self._tell(
            change, text, level=level, pool_id=self._pool_id, replica_id=self._replica_id, model_id=model, **more
        )
