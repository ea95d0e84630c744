"""Harnesses that make checks pass without proving anything: each is found out, and none leads to `conformant`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from adapter_api import Capability, EngineProps, TaskRequest, Tool, Unsupported
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.command_line import describe
from conformance_tests.execution import Session
from conformance_tests.harness import (
    Echo,
    Harness,
    KnownReasoning,
    KnownResponses,
    KnownTensors,
    KnownText,
    KnownToolCalls,
)
from conformance_tests.markdown import verdict_line
from conformance_tests.mutants.breaking import HurryingHarness
from conformance_tests.outcome import Outcome, Skipped, Status
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.answers import NOTHING
from conformance_tests.report import Report, make_report

no_spec = "it is about what the suite makes of a harness"


def report_on(harness: Harness) -> Report:
    """Return the report of the whole suite."""
    catalog, session = load(), Session(harness)
    outcomes = session.run_all(load_suite().values(), {r.id: r for r in catalog.requirements}, lambda outcome: None)
    return make_report(
        outcomes, catalog=catalog, under=describe(session), deviations={}, started_at=time.time(), duration_s=1.0,
        seed=0, strict=False,
    )  # fmt: skip


def outcome_of(harness: Harness, requirement: str) -> Outcome:
    return Session(harness).run(load_suite()[requirement], None)


class EndsItsLongTasks(HurryingHarness):
    """The long task is done before a cancel has to show."""

    long_tokens = 40


class ClaimsThatNothingRuns(HurryingHarness):
    async def in_flight(self) -> int:
        return 0


class ClaimsThatSomethingRuns(HurryingHarness):
    async def in_flight(self) -> int:
        return 1


class CountsNoInferences(HurryingHarness):
    async def inferences(self) -> int:
        return 5309


class CountsNoTokens(HurryingHarness):
    async def emitted(self) -> int:
        return 5309


class PausesNothing(HurryingHarness):
    async def pause_engine(self) -> None:
        pass


class StopsNothing(HurryingHarness):
    async def stop_engine(self) -> None:
        pass


class InjectsNothing(HurryingHarness):
    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        pass


class AsksForNothing(HurryingHarness):
    prompt = NOTHING


class HasNoImages(HurryingHarness):
    def images_task(self) -> TaskRequest:
        return self.task()


class HasNoTools(HurryingHarness):
    def tools_task(self) -> TaskRequest:
        return self.task()


class KnowsNoCalls(HurryingHarness):
    def known_tool_calls(self) -> KnownToolCalls:
        return KnownToolCalls(task=self.task(tools=(Tool(name="time"),)), calls=())


class CallsWithoutTools(HurryingHarness):
    def known_tool_calls(self) -> KnownToolCalls:
        return KnownToolCalls(task=self.task(), calls=(("time", "{}"),))


class ThinksNothing(HurryingHarness):
    def known_reasoning(self) -> KnownReasoning:
        return KnownReasoning(task=self.task(), reasoning="", text="forty two")


class HasNoSchema(HurryingHarness):
    def json_task(self) -> TaskRequest:
        return self.task()


class HasNoStream(HurryingHarness):
    def known_stream(self) -> KnownResponses:
        return KnownResponses(request=super().known_stream().request, responses=())


class CutsNothing(HurryingHarness):
    def split_text(self) -> KnownText:
        return KnownText(task=self.task(prompt="echo:plain words"), text="plain words")


class KnowsNoSecret(HurryingHarness):
    def secrets(self) -> Iterable[str]:
        return ("",)


class CountsInferencesTwice(HurryingHarness):
    """Counts its own questions too."""

    asked = 0

    async def inferences(self) -> int:
        self.asked += 1
        return self.asked + await super().inferences()


class CountsBackwards(HurryingHarness):
    async def emitted(self) -> int:
        return -await super().emitted()


class NeverMakesUnready(HurryingHarness):
    async def make_unready(self) -> None:
        pass


class DropsNothing(HurryingHarness):
    async def drop_streams(self) -> None:
        pass


class FailsWithSomethingElse(HurryingHarness):
    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        await super().fail_next("engine_failed")


class ForgetsHowLongToWait(HurryingHarness):
    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        await super().fail_next(code)


class QuotesNothing(HurryingHarness):
    async def fail_quoting(self) -> None:
        pass


class KnowsAnotherText(HurryingHarness):
    def known_text(self) -> KnownText:
        known = super().known_text()
        return KnownText(task=known.task, text="what it never says", tokens_in=known.tokens_in, tokens_out=4)


class EchoesNothing(HurryingHarness):
    def echoed(self, answer: str) -> Echo:
        return Echo(text="")


class EchoesTheTask(HurryingHarness):
    """Reads what the adapter was given, not what the engine was sent."""

    given: TaskRequest | None = None

    def echo_task(self, **changes: Any) -> TaskRequest:
        self.given = super().echo_task(**changes)
        return self.given

    def echoed(self, answer: str) -> Echo:
        assert self.given is not None
        return Echo(text=self.given.prompt or "", fields=self.given.model_dump(exclude_none=True))


class HasASequenceOfOne(HurryingHarness):
    def known_sequence(self) -> tuple[KnownTensors, ...]:
        return super().known_sequence()[:1]


class NamesOneVersionTwice(HurryingHarness):
    echo_versions = ("1", "1")


class HasNoTime(HurryingHarness):
    settle_s = 0.0


@pytest.mark.parametrize(
    "lie, requirement, status, reason",
    [
        (EndsItsLongTasks, "ORCH-3060-014", Status.BLOCKED, "ended by itself after"),
        (EndsItsLongTasks, "ORCH-3060-015", Status.BLOCKED, "ended by itself after"),
        (EndsItsLongTasks, "ORCH-3060-017", Status.BLOCKED, "ended by itself after"),
        (EndsItsLongTasks, "ORCH-3056-008", Status.BLOCKED, "ended by itself after"),
        (EndsItsLongTasks, "ORCH-3056-010", Status.BLOCKED, "ended by itself after"),
        (ClaimsThatNothingRuns, "ORCH-3060-014", Status.BLOCKED, "work on nothing while the long task runs"),
        (ClaimsThatSomethingRuns, "ORCH-3060-014", Status.BLOCKED, "does not become idle"),
        (CountsNoInferences, "ORCH-3057-007", Status.BLOCKED, "does not count the task"),
        (CountsNoTokens, "ORCH-3059-042", Status.BLOCKED, "does not count the token"),
        (PausesNothing, "ORCH-3057-001", Status.BLOCKED, "said to be paused and answers"),
        (StopsNothing, "ORCH-3057-003", Status.BLOCKED, "said to be stopped and answers"),
        (InjectsNothing, "ORCH-3058-016", Status.BLOCKED, "no task failed"),
        (AsksForNothing, "ORCH-3059-003", Status.BLOCKED, "answered with no text"),
        (HasNoImages, "ORCH-3059-025", Status.BROKEN, "a task without images"),
        (HasNoTools, "ORCH-3059-044", Status.BROKEN, "a task without tools"),
        (KnowsNoCalls, "ORCH-3059-061", Status.BROKEN, "without known tool calls"),
        (CallsWithoutTools, "ORCH-3059-060", Status.BROKEN, "a task without tools"),
        (ThinksNothing, "ORCH-3059-062", Status.BROKEN, "without thoughts"),
        (HasNoSchema, "ORCH-3059-027", Status.BROKEN, "a task without response_format"),
        (HasNoStream, "ORCH-3061-014", Status.BROKEN, "fewer than two responses"),
        (CutsNothing, "ORCH-3059-011", Status.BROKEN, "all have one byte"),
        (KnowsNoSecret, "ORCH-3058-015", Status.SKIPPED, "names no credential"),
        (HasNoTime, "ORCH-3059-001", Status.BROKEN, "settle_s is 0.0"),
        (CountsBackwards, "ORCH-3059-007", Status.BROKEN, "which is no count"),
        (QuotesNothing, "ORCH-3058-030", Status.BLOCKED, "the task that was to fail did not"),
        (HasASequenceOfOne, "ORCH-3061-016", Status.BROKEN, "fewer than three requests"),
        (NamesOneVersionTwice, "ORCH-3055-046", Status.BROKEN, "names a version twice"),
    ],
)
def test_a_check_that_would_prove_nothing_says_so(
    lie: Callable[[], Harness], requirement: str, status: Status, reason: str
) -> None:
    outcome = outcome_of(lie(), requirement)

    assert (outcome.status, reason in outcome.reason) == (status, True), outcome


class SkipsEveryTask(HurryingHarness):
    def task(self, **changes: Any) -> TaskRequest:
        raise Skipped("there is no task")


class SkipsWhatIsDeclared(HurryingHarness):
    def images_task(self) -> TaskRequest:
        raise Skipped("there is no picture")

    def known_tool_calls(self) -> KnownToolCalls:
        raise Skipped("there is no tool")

    def known_reasoning(self) -> KnownReasoning:
        raise Skipped("nobody thinks")


class TriesAModelThatCanLess(HurryingHarness):
    """The adapter declares more for its engine than for the model that is tried."""

    def __init__(self) -> None:
        super().__init__(adapter_class=DeclaresMoreForItsEngine)


class DeclaresMoreForItsEngine(ReferenceAdapter):
    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.logprobs is not None:
            raise Unsupported("this model tells no log probabilities")

    async def _props(self) -> EngineProps:
        props = await super()._props()
        told: Any = props.models[0]
        less = type(told)(name=told.name, ready=True, capabilities=told.capabilities - {Capability.LOGPROBS})
        other = type(told)(name="echo", ready=True, capabilities=told.capabilities)
        return type(props)(
            engine=props.engine, engine_version=props.engine_version, capabilities=props.capabilities,
            models=(less, other), slots_total=props.slots_total, slots_free=props.slots_free,
        )  # fmt: skip


class DeclaresNothing(HurryingHarness):
    def __init__(self) -> None:
        super().__init__(capabilities=frozenset())


@pytest.mark.parametrize(
    "lie, unproved",
    [
        (SkipsWhatIsDeclared, ("images", "reasoning", "tools")),
        (TriesAModelThatCanLess, ("logprobs",)),
        (EndsItsLongTasks, ("cancel_hard",)),
    ],
)
def test_what_is_declared_and_not_proved_is_named_and_not_conformant(
    lie: Callable[[], Harness], unproved: tuple[str, ...]
) -> None:
    report = report_on(lie())

    assert (report.verdict, report.exit_code, report.unproved) == ("incomplete", 2, unproved)


def test_a_harness_that_skips_every_task_proves_nothing() -> None:
    report = report_on(SkipsEveryTask())

    assert (report.verdict, report.exit_code) == ("incomplete", 2)
    assert {"text", "usage", "cancel_hard"} <= set(report.unproved)


def test_an_adapter_that_declares_nothing_is_not_conformant() -> None:
    assert report_on(DeclaresNothing()).verdict in ("incomplete", "not conformant")


@pytest.mark.parametrize(
    "lie",
    [
        AsksForNothing, StopsNothing, PausesNothing, InjectsNothing, HasNoTime, CountsInferencesTwice, CountsBackwards,
        NeverMakesUnready, DropsNothing, FailsWithSomethingElse, ForgetsHowLongToWait, QuotesNothing, KnowsAnotherText,
        EchoesNothing, EchoesTheTask, HasASequenceOfOne, NamesOneVersionTwice,
    ],
)  # fmt: skip
def test_no_lie_leads_to_conformant(lie: Callable[[], Harness]) -> None:
    assert report_on(lie()).verdict in ("incomplete", "not conformant")


def test_the_verdict_says_in_one_line_what_it_rests_on() -> None:
    line = verdict_line(report_on(HurryingHarness()))

    assert line.startswith("conformant (")
    assert "0 skipped" in line
    assert "20 of 22 capabilities proved" in line
    assert "not provable: chat_template_kwargs, image_urls" in line
    assert "\n" not in line
