"""Running checks, one after the other, each in an event loop of its own."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from time import perf_counter

import anyio

from adapter_api import Capability
from conformance_tests.catalog import ALWAYS, Requirement
from conformance_tests.checks import Check
from conformance_tests.harness import Harness
from conformance_tests.outcome import Blocked, Failed, HarnessBroke, NotApplicable, Outcome, Status, Verdict
from conformance_tests.promises import settings_problem
from conformance_tests.subject import Facts, Subject, Trust
from conformance_tests.watchdog import WAITING, interrupting

DEFAULT_TIMEOUT_S = 60.0

MENDING_S = 60.0
"""Seconds beyond its limit that a check may take to mend what it broke."""

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
        self._broken: HarnessBroke | None = None

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
        verdict = self._attempt(check, requirement)
        return Outcome(
            requirement=check.requirement,
            status=Status.PASSED if verdict is None else verdict.status,
            reason="" if verdict is None else verdict.reason,
            duration_s=round(perf_counter() - began, 4),
            check=check.name,
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

    def _run(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run it in an event loop of its own, and no longer than its limit and some time to mend what it broke."""
        limit_s = self.timeout_s + MENDING_S
        with interrupting(limit_s) as blocked_at:
            try:
                anyio.run(run, backend=self.harness.backend, backend_options=self.harness.backend_options())
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
