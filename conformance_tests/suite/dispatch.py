"""ORCH-3055: how a task gets to an engine."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import anyio

from adapter_api import (
    Capability,
    End,
    Error,
    ImagePart,
    Message,
    ResponseFormat,
    Started,
    TaskRequest,
    Token,
    Tool,
    WorkerAdapter,
)
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, Failed, NotApplicable, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject, renamed

AT_ONCE = 20
"""How many tasks with known texts run at once."""


@requirement("ORCH-3055-001")
async def test_submit_does_not_raise(subject: Subject) -> None:
    """Submit tasks to an adapter before its opening, with the engine gone, and after the close."""
    adapter = subject.adapter()
    _submit(adapter, subject.harness.task(), "before the adapter was opened")
    async with subject.open() as adapter:
        _submit(adapter, subject.harness.task(), "while the adapter was open")
        _submit(adapter, subject.harness.task(model="no-such-model-5309"), "for an unknown model")
        try:
            async with subject.engine_stopped():
                _submit(adapter, subject.harness.task(), "while the engine was down")
        except Skipped:
            pass
    _submit(adapter, subject.harness.task(), "after the adapter was closed")


def _submit(adapter: WorkerAdapter, task: TaskRequest, when: str) -> None:
    try:
        adapter.submit(task)
    except Exception as exc:
        raise Failed(f"submit raised {type(exc).__name__} {when}: {exc}; raise it from the generator") from exc


@requirement("ORCH-3055-003")
async def test_a_job_id_that_runs_is_a_conflict(subject: Subject) -> None:
    """Submit a task with the `job_id` of a running one, then read on in the running one."""
    async with subject.open() as adapter, subject.streaming(adapter) as running:
        second = await subject.run(adapter, subject.harness.task(job_id=running.task.job_id))
        told = second.error.code if second.error else "no error"
        expect(told == "job_conflict", f"a second task of a running job_id ended in {told}")
        event = await running.next()
        expect(
            event is not None and not isinstance(event, End | Error),
            f"a second task of its job_id ended the running task: {running.summary()}",
        )


@requirement("ORCH-3055-004")
async def test_tasks_do_not_receive_each_others_events(subject: Subject) -> None:
    """Run tasks with different known texts one by one, then many of each at once, and compare texts and names."""
    async with subject.open() as adapter:
        alone = await _repeatable_tasks(subject, adapter)
        copies = math.ceil(AT_ONCE / len(alone))
        together = [subject.submit(adapter, renamed(one.task)) for one in alone for _ in range(copies)]
        with anyio.move_on_after(20 * subject.harness.settle_s):
            await subject.read_all(together)

    if any(recording.terminal is None for recording in together):
        raise Blocked("tasks that run at once do not all end")
    others = {recording.task.job_id for recording in together}
    for recording in together:
        for event in recording.said:
            strayed = isinstance(event, Started) and event.job_id in others - {recording.task.job_id}
            expect(not strayed, "a task that ran beside others got the started event of another task")
    expected = [one.text for one in alone for _ in range(copies)]
    # A task that failed received nobody's events: that it must not fail is not asked here.
    mixed = sum(
        isinstance(recording.terminal, End) and recording.text != text
        for recording, text in zip(together, expected, strict=True)
    )
    expect(mixed == 0, f"{mixed} of {len(together)} tasks that ran at once got another text than alone")


async def _repeatable_tasks(subject: Subject, adapter: WorkerAdapter) -> list[Recording]:
    """Return tasks of at least two texts, run alone."""
    known = await subject.repeatable(adapter)
    tasks = [renamed(known.task)]
    with contextlib.suppress(Skipped):
        tasks.append(subject.harness.split_text().task)
    if subject.declares(Capability.SEED, subject.harness.task().model):
        tasks += [subject.harness.task(seed=seed) for seed in range(4)]
    twice = [[await subject.complete(adapter, renamed(task)) for _ in range(2)] for task in tasks]
    # A seed that is not kept is another requirement's matter.
    repeatable = [one for one, other in twice if one.text == other.text]
    if len({one.text for one in repeatable}) < 2:
        raise Skipped("the harness knows of one repeatable text only: Harness.known_text is not overridden")
    return repeatable


@requirement("ORCH-3055-005")
async def test_many_tasks_at_once_all_end(subject: Subject) -> None:
    """Submit a hundred tasks at once and read each to its end."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recordings = [subject.submit(adapter, subject.harness.task()) for _ in range(subject.harness.streams)]
        with anyio.move_on_after(20 * subject.harness.settle_s):
            await subject.read_all(recordings)

    open_ended = sum(recording.terminal is None for recording in recordings)
    expect(open_ended == 0, f"{open_ended} of {len(recordings)} tasks submitted at once did not end")


@requirement("ORCH-3055-006")
async def test_an_unknown_model_is_model_not_found(subject: Subject) -> None:
    """Submit a task for a model that no engine has."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = await subject.unknown_model(adapter)

    told = recording.error.code if recording.error else "no error"
    expect(told == "model_not_found", f"a task for an unknown model ended in {told}")


_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def _asking_for(subject: Subject) -> Iterator[tuple[Capability, TaskRequest]]:
    """Yield a task for each capability that a task can ask for."""
    task, prompt = subject.harness.task, subject.harness.prompt
    image = (Message(role="user", content=(ImagePart(data=_IMAGE, media_type="image/png"),)),)
    yield Capability.MESSAGES, task(prompt=None, messages=(Message(role="user", content=prompt),))
    yield Capability.IMAGES, task(prompt=None, messages=image)
    yield Capability.IMAGES, task(prompt_images=(ImagePart(data=_IMAGE, media_type="image/png"),))
    remote = Message(role="user", content=(ImagePart(url="https://images.example/one.png"),))
    yield Capability.IMAGE_URLS, task(prompt=None, messages=(remote,))
    yield Capability.STOP, task(stop=("unlikely-5309",))
    yield Capability.SEED, task(seed=1)
    yield Capability.LOGPROBS, task(logprobs=0)
    yield Capability.RESPONSE_FORMAT, task(response_format=ResponseFormat(type="json"))
    yield Capability.TOOLS, task(tools=(Tool(name="weather", parameters={"type": "object"}),))
    yield (
        Capability.CHAT_TEMPLATE_KWARGS,
        task(
            prompt=None,
            messages=(Message(role="user", content=prompt),),
            chat_template_kwargs={"enable_thinking": False},
        ),
    )
    yield Capability.PROMPT_TOKEN_IDS, task(prompt=None, prompt_token_ids=(1, 2, 3))
    yield Capability.TOKEN_IDS, task(return_token_ids=True)
    yield Capability.PROMPT_LOGPROBS, task(prompt_logprobs=0)
    turns = (Message(role="user", content=prompt), Message(role="assistant", content="I say"))
    yield Capability.CONTINUE_FINAL_MESSAGE, task(prompt=None, messages=turns, continue_final_message=True)


@requirement("ORCH-3055-007")
async def test_what_is_not_declared_is_refused(subject: Subject) -> None:
    """Ask for each capability that the model does not declare."""
    undeclared = [
        (c, task)
        for c, task in _asking_for(subject)
        if not subject.declares(c, task.model) and not subject.is_uncertain(c, task.model)
    ]
    if not undeclared:
        raise NotApplicable("the model declares everything that a task can ask for")
    async with subject.open() as adapter:
        await subject.complete(adapter)
        for capability, task in undeclared:
            recording = await subject.run(adapter, task)
            told = recording.error.code if recording.error else "no error"
            expect(told == "unsupported", f"{capability} is not declared, and a task that asks for it ended in {told}")
            expect(not recording.tokens, f"{capability} is not declared, and a task that asks for it got tokens")


@requirement("ORCH-3055-008")
async def test_parameters_of_another_engine_are_passed_over(subject: Subject) -> None:
    """Run a task with a parameter in the namespace of another engine."""
    task = subject.harness.task(parameters={"no-such-engine.strength": 11})
    async with subject.open() as adapter:
        await subject.succeed(adapter, task, "a task with a parameter of another engine")


@requirement("ORCH-3055-009")
async def test_an_unknown_parameter_of_this_engine_is_refused_by_name(subject: Subject) -> None:
    """Run a task with a parameter in the adapter's own namespace that nothing takes."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        task = subject.harness.task(parameters={f"{adapter.engine}.no_such_parameter": 1})
        recording = await subject.run(adapter, task)

    expect(recording.error is not None, f"a parameter that nothing takes was accepted: {recording.summary()}")
    named = recording.error is not None and "no_such_parameter" in recording.error.message
    expect(named, f"the refusal of a parameter does not name it: {recording.summary()}")


@requirement("ORCH-3055-036")
async def test_fields_that_need_no_capability_are_accepted(subject: Subject) -> None:
    """Run a task with `session_id`, `priority`, `timeout_s` and `traceparent`."""
    task = subject.harness.task(
        session_id="session-5309",
        priority="batch",
        timeout_s=60.0,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    async with subject.open() as adapter:
        await subject.succeed(adapter, task, "a task with session_id, priority, timeout_s and traceparent")


@requirement("ORCH-3055-038")
async def test_a_task_does_not_fail_because_others_run(subject: Subject) -> None:
    """Run tasks one by one, then many like them at once: none fails, unless the engine has no room for it."""
    tasks = [subject.harness.task()]
    with contextlib.suppress(Skipped):
        tasks.append(subject.harness.split_text().task)
    async with subject.open() as adapter:
        for task in tasks:
            await subject.complete(adapter, task)
        together = [subject.submit(adapter, renamed(task)) for _ in range(AT_ONCE // len(tasks)) for task in tasks]
        with anyio.move_on_after(20 * subject.harness.settle_s):
            await subject.read_all(together)

    failed = [recording for recording in together if recording.error and recording.error.code != "overloaded"]
    expect(
        not failed,
        f"{len(failed)} of {len(together)} tasks at once failed where one alone does not: "
        f"{failed[0].summary() if failed else ''}",
    )


@requirement("ORCH-3055-039")
async def test_a_task_needs_no_max_tokens(subject: Subject) -> None:
    """Run a task without `max_tokens` up to its first token."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = subject.submit(adapter, subject.harness.task(max_tokens=None))
        async with recording.stream:
            while (event := await recording.next()) is not None and not isinstance(event, Token):
                pass

    expect(recording.error is None, f"a task without max_tokens failed: {recording.summary()}")


@requirement("ORCH-3055-049")
async def test_logprobs_do_not_change_the_text(subject: Subject) -> None:
    """Run a repeatable task with and without `logprobs`, also with a stop string out of the middle of its text."""
    async with subject.open() as adapter:
        known = await subject.repeatable(adapter, Capability.LOGPROBS)
        subject.only_with(Capability.LOGPROBS, known.task.model)
        words = known.text.split()
        ways: list[dict[str, object]] = [{}]
        if subject.declares(Capability.STOP, known.task.model) and len(words) > 2:
            ways.append({"stop": (words[len(words) // 2],)})
        for changes in ways:
            beside = " with a stop string" if changes else ""
            plain = renamed(known.task).model_copy(update=changes)
            asking = renamed(plain).model_copy(update={"logprobs": 0})
            wanted = await subject.complete(adapter, plain)
            scored = await subject.succeed(adapter, asking, f"a task with logprobs{beside}")
            expect(
                scored.text == wanted.text,
                f"a task{beside} gets {len(wanted.text)} characters, and {len(scored.text)} others with logprobs",
            )


@requirement("ORCH-3055-051")
async def test_a_task_does_not_wait_for_another_to_end(subject: Subject) -> None:
    """Run a short task beside a long one, and ask the engine whether the long one was still at work then."""
    if subject.props.slots_total == 1:
        raise NotApplicable("the engine takes one task at a time, as its props say")
    await subject.can_prove_cancels()
    async with subject.open() as adapter:
        await subject.complete(adapter)
        async with subject.streaming(adapter):
            await subject.must_work_on()
            short = subject.submit(adapter, subject.harness.task())
            with anyio.move_on_after(3 * subject.harness.settle_s) as waited:
                await short.rest()
            beside = await subject.harness.in_flight()

    if short.error is not None and short.error.code == "overloaded":
        raise Blocked("the engine has no room for a second task")
    reached = not waited.cancelled_caught or beside > 1  # it may be slow there
    expect(reached, "a short task did not end as long as a long one was there before it")
    expect(short.error is None, f"a short task beside a long one failed: {short.summary()}")
    expect(beside, "a short task ended only when the engine was done with a long one that was there before")


@requirement("ORCH-3055-050")
async def test_a_stop_string_cuts_its_own_task_only(subject: Subject) -> None:
    """Run a repeatable task with stop strings out of its own text and without one, then many of each at once."""
    async with subject.open() as adapter:
        known = await subject.repeatable(adapter, Capability.STOP)
        subject.only_with(Capability.STOP, known.task.model)
        words = list(dict.fromkeys(known.text.split()))
        if len(words) < 3:
            raise Skipped("the known answer has fewer than three words that could be stop strings")
        stops: list[tuple[str, ...]] = [(), (words[len(words) // 2],), (words[-1],)]
        tasks = [known.task.model_copy(update={"stop": stop}) for stop in stops]
        alone = [(await subject.complete(adapter, renamed(task))).text for task in tasks]
        copies = math.ceil(AT_ONCE / len(tasks))
        together = [subject.submit(adapter, renamed(task)) for _ in range(copies) for task in tasks]
        with anyio.move_on_after(20 * subject.harness.settle_s):
            await subject.read_all(together)

    pairs = zip(together, alone * copies, strict=True)
    ended = [(recording.text, wanted) for recording, wanted in pairs if isinstance(recording.terminal, End)]
    if not ended:
        raise Blocked("no task that runs beside others ends in order")
    wrong = sum(text != wanted for text, wanted in ended)
    expect(not wrong, f"{wrong} of {len(ended)} tasks with stop strings that ran at once got another text than alone")
