"""ORCH-3055: what of a task reaches the engine, asked of a model that answers with what it was sent."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import anyio

from adapter_api import Capability, End, FinishReason, Message, TaskError, TaskRequest, Usage, WorkerAdapter
from adapter_api.task import Role
from conformance_tests.checks import requirement
from conformance_tests.harness import Echo
from conformance_tests.outcome import Blocked, Failed, NotApplicable, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject, renamed
from conformance_tests.suite.dispatch import AT_ONCE

OPTIONS: dict[str, int | float] = {
    "temperature": 0.25, "top_p": 0.75, "top_k": 17, "seed": 5309, "max_tokens": 123, "min_tokens": 3,
    "presence_penalty": 0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.25,
}  # fmt: skip
"""Values that any floating-point format holds exactly, and no engine's defaults."""

_REFUSALS = frozenset({"unsupported", "invalid_request"})

_FAULTS = frozenset(error.code for error in TaskError.__subclasses__())

_CONVERSATION: tuple[tuple[Role, str], ...] = (
    ("system", "alpha-5309"), ("user", "bravo-5309"), ("assistant", "charlie-5309"), ("user", "delta-5309"),
)  # fmt: skip


def _messages(turns: Sequence[tuple[Role, str]]) -> tuple[Message, ...]:
    return tuple(Message(role=role, content=content) for role, content in turns)


def _code_of(recording: Recording) -> str | None:
    return recording.error.code if recording.error else None


def read_echo(subject: Subject, recording: Recording) -> Echo:
    """Return what the echoing model was sent; blocks the check when its answer does not come through."""
    if not isinstance(recording.terminal, End):
        raise Blocked(f"the echoing model does not answer: {recording.summary()}")
    try:
        return subject.harness.echoed(recording.text)
    except Exception as exc:
        raise Blocked(f"the answer of the echoing model does not come through whole: {exc}") from exc


async def _echo(subject: Subject, adapter: WorkerAdapter, task: TaskRequest) -> Echo:
    return read_echo(subject, await subject.run(adapter, task))


@requirement("ORCH-3055-043")
async def test_every_message_reaches_the_engine_with_its_role(subject: Subject) -> None:
    """Send a conversation to the echoing model, then the same words with other roles, and compare what it was sent."""
    first = subject.harness.echo_task(prompt=None, messages=_messages(_CONVERSATION[1:2]))
    subject.only_with(Capability.MESSAGES, first.model)
    async with subject.open() as adapter:
        if _CONVERSATION[1][1] not in (await _echo(subject, adapter, first)).text:
            raise Blocked("a message alone does not reach the engine, or Harness.echoed does not tell of it")
        told = await _echo_of(subject, adapter, _CONVERSATION)
        alike = await _echo_of(subject, adapter, [("user", text) for _, text in _CONVERSATION])

    places = [told.find(text) for _, text in _CONVERSATION]
    lost = [role for (role, _), place in zip(_CONVERSATION, places, strict=True) if place < 0]
    expect(not lost, f"of a conversation of {len(places)} messages the engine was not sent that of: {', '.join(lost)}")
    expect(places == sorted(places), "the messages of a conversation reach the engine in another order")
    again = [text for _, text in _CONVERSATION if told.count(text) > 1]
    expect(not again, f"{len(again)} messages of a conversation reach the engine more than once")
    expect(told != alike, "a conversation reaches the engine as if every message in it were the user's")


async def _echo_of(subject: Subject, adapter: WorkerAdapter, turns: Sequence[tuple[Role, str]]) -> str:
    recording = await subject.run(adapter, subject.harness.echo_task(prompt=None, messages=_messages(turns)))
    expect(recording.error is None, f"a conversation of {len(turns)} messages failed: {recording.summary()}")
    return read_echo(subject, recording).text


@requirement("ORCH-3055-044")
async def test_nothing_of_another_task_reaches_the_engine(subject: Subject) -> None:
    """Send the echoing model tasks with words and options of their own, in turn and at once, by prompt and messages."""
    harness = subject.harness
    forms = ["prompt"]
    if subject.declares(Capability.MESSAGES, harness.echo_task().model):
        forms.append("messages")
    async with subject.open() as adapter:
        await _echo(subject, adapter, harness.echo_task())
        for form in forms:
            tasks = [_telling(subject, form, word) for word in ("echo-1-5309", "echo-2-5309", "echo-3-5309")]
            in_turn = [await subject.run(adapter, task) for task in tasks[:2]]
            together = [subject.submit(adapter, renamed(task)) for task in tasks]
            await subject.read_all(together)
            for recording in [*in_turn, *together]:
                _expect_own(subject, recording, form)
        optioned = await subject.run(adapter, harness.echo_task(temperature=OPTIONS["temperature"]))
        plain = await _echo(subject, adapter, harness.echo_task())
    if optioned.error is None and read_echo(subject, optioned).fields.get("temperature") == OPTIONS["temperature"]:
        kept = plain.fields.get("temperature") == OPTIONS["temperature"]
        expect(not kept, "the temperature of a task is sent with the next one as well")


def _telling(subject: Subject, form: str, word: str) -> TaskRequest:
    if form == "prompt":
        return subject.harness.echo_task(prompt=f"say {word} please")
    turns: tuple[tuple[Role, str], ...] = (("user", "hello"), ("assistant", "hello"), ("user", f"say {word} please"))
    return subject.harness.echo_task(prompt=None, messages=_messages(turns))


def _expect_own(subject: Subject, recording: Recording, form: str) -> None:
    if recording.error is not None:
        return
    asked = recording.task.prompt or (recording.task.messages or ())[-1].text
    told = read_echo(subject, recording).text
    others = [f"echo-{at}-5309" for at in (1, 2, 3) if f"echo-{at}-5309" not in asked]
    strange = [word for word in others if word in told]
    expect(not strange, f"with a task by {form} the engine was sent the words of {len(strange)} other tasks")


@requirement("ORCH-3055-045")
async def test_options_reach_the_engine_or_are_refused(subject: Subject) -> None:
    """Send the echoing model a task with each sampling option, and compare its value with the one that arrived."""
    async with subject.open() as adapter:
        await _echo(subject, adapter, subject.harness.echo_task())
        for name, value in OPTIONS.items():
            recording = await subject.run(adapter, subject.harness.echo_task(**{name: value}))
            if _code_of(recording) in _REFUSALS:
                continue
            sent = read_echo(subject, recording).fields.get(name)
            expect(sent == value, f"{name}={value} was asked for, and the engine was sent {sent}; send or refuse it")


@requirement("ORCH-3055-046")
async def test_the_version_of_a_model_reaches_the_engine_or_is_refused(subject: Subject) -> None:
    """Ask for a version that no model has, and for each that the echoing model has."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = await subject.run(adapter, subject.harness.task(model_version="5309"))
        expect(recording.error is not None, "a version that the model does not have was asked for, and a task answered")
        expect(
            _code_of(recording) in _FAULTS,
            f"a version that the model does not have is no fault of the task: {recording.summary()}",
        )
        for version in subject.harness.echo_versions:
            asked = await subject.run(adapter, subject.harness.echo_task(model_version=version))
            if asked.error is not None:
                raise Failed(f"version {version} of the echoing model was asked for: {asked.summary()}")
            told = read_echo(subject, asked).model_version
            expect(told == version, f"version {version} of the echoing model was asked for, and {told} answered")


@requirement("ORCH-3055-042")
async def test_usage_and_finish_reason_are_those_of_the_task(subject: Subject) -> None:
    """Run tasks of different lengths one by one, then many of each at once, and compare their ends."""
    model = subject.harness.task().model
    if not (subject.declares(Capability.USAGE, model) or subject.declares(Capability.FINISH_REASON, model)):
        raise NotApplicable(f"model {model!r} declares neither usage nor finish_reason")
    async with subject.open() as adapter:
        alone = await _with_ends_of_their_own(subject, adapter)
        copies = math.ceil(AT_ONCE / len(alone))
        # In turn, so that those which run side by side are different ones.
        together = [subject.submit(adapter, renamed(one.task)) for _ in range(copies) for one in alone]
        with anyio.move_on_after(20 * subject.harness.settle_s):
            await subject.read_all(together)

    expected = [_told_at_the_end(one) for one in alone] * copies
    ended = [(r, wanted) for r, wanted in zip(together, expected, strict=True) if isinstance(r.terminal, End)]
    if not ended:
        raise Blocked("no task that runs beside others ends in order")
    wrong = [(_told_at_the_end(r), wanted) for r, wanted in ended if _told_at_the_end(r) != wanted]
    expect(
        not wrong,
        f"{len(wrong)} of {len(ended)} tasks that ran at once told another end than alone: "
        f"{wrong[0][0] if wrong else ''}, not {wrong[0][1] if wrong else ''}",
    )


async def _with_ends_of_their_own(subject: Subject, adapter: WorkerAdapter) -> list[Recording]:
    """Return tasks whose ends differ and are the same when they run again."""
    tasks = [subject.harness.task(max_tokens=limit) for limit in range(2, 7)]
    with contextlib.suppress(Skipped):
        tasks.append(subject.harness.known_text().task)
    twice = [[await subject.complete(adapter, renamed(task)) for _ in range(2)] for task in tasks]
    same = [one for one, other in twice if _told_at_the_end(one) == _told_at_the_end(other)]
    if len({str(_told_at_the_end(one)) for one in same}) < 2:
        raise Blocked("tasks of different lengths tell the same end, or another one each time")
    return same


def _told_at_the_end(recording: Recording) -> tuple[FinishReason, Usage]:
    return recording.end.finish_reason, recording.end.usage
