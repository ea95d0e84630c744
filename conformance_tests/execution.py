"""Running checks, one after the other, each in an event loop of its own."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from time import perf_counter
from typing import TypeVar

import anyio

from adapter_api import Capability
from conformance_tests.catalog import ALWAYS, Requirement
from conformance_tests.checks import Check
from conformance_tests.harness import Harness
from conformance_tests.outcome import (
    Blocked,
    EngineDeath,
    Failed,
    HarnessBroke,
    NotApplicable,
    Outcome,
    Status,
    Verdict,
)
from conformance_tests.promises import settings_problem
from conformance_tests.subject import Facts, Subject, Trust
from conformance_tests.watchdog import WAITING, interrupting

DEFAULT_TIMEOUT_S = 60.0

MENDING_S = 60.0
"""Seconds beyond its limit that a check may take to mend what it broke."""

ATTEMPTS = 2
"""How often a check is tried whose engine dies of itself."""

MOST_DEATHS = 10
"""Deaths after which an engine is given up: each costs a start, and so many are no chance."""

ASKING_S = 30.0
"""Seconds in which a harness has to say whether its engine lives."""

REVIVAL_S = 120.0
"""Seconds in which a harness has to bring its engine back."""

T = TypeVar("T")

_log = logging.getLogger("conformance_tests")


class Session:
    """Runs checks against one harness, which it starts when first needed and stops at the end."""

    def __init__(self, harness: Harness, *, seed: int = 0, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.harness = harness
        self.seed = seed
        self.timeout_s = timeout_s
        self._facts: Facts | None = None
        self._trust = Trust()
        self._started = False
        self._broken: Verdict | None = None
        """Why no further check can be tried."""
        self._deaths = 0

    @property
    def facts(self) -> Facts:
        """What the adapter tells of itself; asked once."""
        if self._facts is None:
            self._facts = self._ask()
        return self._facts

    @property
    def known_facts(self) -> Facts:
        """What the adapter has told so far; nothing when no check ran."""
        return self._facts or Facts()

    def run(self, check: Check, requirement: Requirement | None) -> Outcome:
        """Run one check and return how it ended; never raises but for an interrupt."""
        began = perf_counter()
        deaths: list[EngineDeath] = []
        verdict = self._on_a_living_engine(check, requirement, deaths)
        return Outcome(
            requirement=check.requirement,
            status=Status.PASSED if verdict is None else verdict.status,
            reason="" if verdict is None else verdict.reason,
            duration_s=round(perf_counter() - began, 4),
            check=check.name,
            engine_deaths=tuple(deaths),
        )

    def run_all(
        self, checks: Iterable[Check], requirements: dict[str, Requirement], told: Callable[[Outcome], None]
    ) -> list[Outcome]:
        """Run checks in order, telling each outcome as it is known, and stop the harness."""
        outcomes = []
        try:
            for check in checks:
                outcome = self.run(check, requirements.get(check.requirement))
                told(outcome)
                outcomes.append(outcome)
        finally:
            self.close()
        return outcomes

    def close(self) -> None:
        """Stop the harness, if it was started; that it cannot be stopped changes no outcome, and is logged."""
        if self._started:
            self._started = False
            try:
                self.harness.stop()
            except HarnessBroke as exc:
                _log.warning("%s", exc.reason)

    def _on_a_living_engine(
        self, check: Check, requirement: Requirement | None, deaths: list[EngineDeath]
    ) -> Verdict | None:
        """Try the check, and once more when its engine died of itself: neither a pass nor a failure counts then.

        A second death is the check's own doing, or the adapter's: it is told, and nothing passes by it.
        """
        for _ in range(ATTEMPTS):
            known = dict(self._trust.known)
            verdict = self._attempt(check, requirement)
            if not self._started or self._broken is not None:
                return verdict
            try:
                death = self._run(partial(_within, ASKING_S, self.harness.engine_died))
                if death is None:
                    return verdict
                self._trust.forget(known)
                if self._facts is not None and self._facts.props is None:
                    self._facts = None
                deaths.append(self._bury(check, death))
            except Exception as exc:
                return _verdict_of(exc)
            if self._broken is not None:
                return self._broken
        return Blocked(f"the engine dies of it: {'; then '.join(death.reason for death in deaths)}")

    def _bury(self, check: Check, reason: str) -> EngineDeath:
        """Have a dead engine brought back; where that cannot be, no further check is tried."""
        self._deaths += 1
        problem = ""
        if self._deaths > MOST_DEATHS:
            problem = f"it died {self._deaths} times in this run, and is given up"
        else:
            try:
                self._run(partial(_within, REVIVAL_S, self.harness.revive_engine))
            except Exception as exc:
                problem = f"it could not be started anew: {_verdict_of(exc).reason}"
        if problem:
            self._broken = Blocked(f"the engine died in the check of {check.requirement}: {reason}; {problem}")
        return EngineDeath(requirement=check.requirement, reason=reason, revived=not problem)

    def _attempt(self, check: Check, requirement: Requirement | None) -> Verdict | None:
        try:
            self._start()
            subject = Subject(self.harness, self.facts, seed=self.seed, trust=self._trust)
            if requirement is not None and requirement.when != ALWAYS:
                subject.only_with(Capability(requirement.when))
            # The same numbers on every run, whichever checks run before.
            random.seed(f"{self.seed}:{check.requirement}")
            self._in_event_loop(check, subject)
        except Verdict as verdict:
            return verdict
        except Exception as exc:
            return _verdict_of(exc)
        return None

    def _start(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._started:
            return
        self._started = True
        try:
            problem = settings_problem(self.harness)
            if problem is not None:
                raise HarnessBroke(f"{type(self.harness).__qualname__}.{problem}")
            self.harness.start()
        except HarnessBroke as exc:
            self._broken = exc
            raise

    def _in_event_loop(self, check: Check, subject: Subject) -> None:
        async def run() -> None:
            with anyio.move_on_after(self.timeout_s) as scope:
                await self.harness.reset()
                await check.function(subject)
            if scope.cancelled_caught:
                raise Failed(f"the check was not done within {self.timeout_s:g} s")

        self._run(run)

    def _run(self, run: Callable[[], Awaitable[T]]) -> T:
        """Run it in an event loop of its own, and no longer than its limit and some time to mend what it broke."""
        limit_s = self.timeout_s + MENDING_S
        returned: list[T] = []
        with interrupting(limit_s) as blocked_at:
            try:
                options = self.harness.backend_options()
                returned.append(anyio.run(run, backend=self.harness.backend, backend_options=options))
            except Exception:
                if not blocked_at:
                    raise
        if blocked_at and blocked_at[0] == WAITING:
            raise Failed(
                f"the check could not be ended within {limit_s:g} s: something waits that no cancellation reaches, "
                "shielded or in a loop that catches it; the event loop itself was free"
            )
        if blocked_at:
            raise Failed(f"the event loop was blocked for {limit_s:g} s, at {blocked_at[0]}: nothing may wait in it")
        return returned[0]

    def _ask(self) -> Facts:
        facts = Facts()

        async def ask() -> None:
            nonlocal facts
            with anyio.fail_after(self.timeout_s):
                await self.harness.reset()
                async with Subject(self.harness, facts).open() as adapter:
                    facts = Facts(props=await adapter.props())

        try:
            self._run(ask)
        except HarnessBroke:
            raise
        except (Blocked, Failed) as exc:
            return Facts(problem=exc.reason)
        except Exception as exc:
            return Facts(problem=f"{type(exc).__name__}: {exc}")
        return facts


async def _within(limit_s: float, method: Callable[[], Awaitable[T]]) -> T:
    """Call a method of the harness that has so long."""
    try:
        with anyio.fail_after(limit_s):
            return await method()
    except TimeoutError as exc:
        raise HarnessBroke(f"harness method {getattr(method, '__qualname__', method)} took over {limit_s:g} s") from exc


def _verdict_of(exc: BaseException) -> Verdict:
    """Return what an exception out of a check means: of several at once, the one that says most."""
    verdicts = [leaf if isinstance(leaf, Verdict) else _escaped(leaf) for leaf in _leaves(exc)]
    return min(verdicts, key=lambda verdict: _WEIGHT[verdict.status])


_WEIGHT = {status: weight for weight, status in enumerate(
    (Status.BROKEN, Status.FAILED, Status.BLOCKED, Status.SKIPPED, NotApplicable.status)
)}  # fmt: skip


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc


def _escaped(exc: BaseException) -> Failed:
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    failed = Failed(f"{type(exc).__name__}{where}: {exc}")
    failed.__cause__ = exc
    return failed
