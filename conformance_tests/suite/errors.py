"""ORCH-3058: errors, and what goes with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from adapter_api import AccessError, AdapterError, Capability, Message, TaskError
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject

CANARY = "xylophone-5309-canary"
"""A prompt that is found wherever it shows."""

INJECTED = (
    "invalid_request", "context_length_exceeded", "unauthenticated", "permission_denied", "not_ready", "overloaded",
    "engine_failed", "connect_failed", "connection_lost", "stream_incomplete", "protocol_violation",
)  # fmt: skip


def _classes(base: type[AdapterError]) -> Iterator[type[AdapterError]]:
    for error in base.__subclasses__():
        yield error
        yield from _classes(error)


_TASK_CODES = frozenset(error.code for error in _classes(TaskError))
_ACCESS_CODES = frozenset(error.code for error in _classes(AccessError))


def _contract_codes() -> frozenset[str]:
    # A subclass of another package does not extend the contract.
    return frozenset(e.code for e in _classes(AdapterError) if e.__module__ == AdapterError.__module__) - {"unknown"}


def _code(recording: Recording) -> str:
    if recording.error is None:
        raise Blocked(f"the task that was to fail did not: {recording.summary()}")
    return recording.error.code


async def _expect_injected(subject: Subject, code: str) -> None:
    """Inject a failure and expect the task to end in it."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        await subject.harness.fail_next(code)
        recording = await subject.run(adapter, subject.harness.task())

    told = recording.error.code if recording.error else "no error"
    expect(told == code, f"the engine failed in the way that is called {code}, and the task ended so: {told}")


@requirement("ORCH-3058-001")
async def test_every_code_is_one_of_the_contract(subject: Subject) -> None:
    """Provoke the failures that have no requirement of their own, and compare their codes with the contract's."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        failed = await subject.failures(adapter, "protocol_violation", "stream_incomplete", "deadline_exceeded")
    if not failed:
        raise Skipped("the harness can inject no protocol_violation, stream_incomplete or deadline_exceeded")

    strange = {recording.error.code for recording in failed if recording.error} - _contract_codes()
    expect(not strange, f"tasks ended in codes that the contract does not have: {sorted(strange)}")


@requirement("ORCH-3058-002")
async def test_an_engine_that_cannot_be_reached_is_connect_failed(subject: Subject) -> None:
    """Stop the engine, or refuse the connection, and submit a task."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        try:
            async with subject.engine_stopped():
                recording = await subject.run(adapter, subject.harness.task())
        except Skipped:
            await subject.harness.fail_next("connect_failed")
            recording = await subject.run(adapter, subject.harness.task())

    told = recording.error.code if recording.error else "no error"
    expect(told == "connect_failed", f"the engine could not be reached and the task ended in {told}")


@requirement("ORCH-3058-003")
async def test_a_connection_that_breaks_is_connection_lost(subject: Subject) -> None:
    """Break the connection of a running task."""
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        await subject.must_be_at_work()
        try:
            await subject.harness.drop_streams()
            await recording.rest()
        except Skipped:
            async with subject.engine_stopped():
                await recording.rest()

    told = recording.error.code if recording.error else "no error"
    hint = "; that is for an answer which ends in order and lacks its end" if told == "stream_incomplete" else ""
    expect(told == "connection_lost", f"the connection broke while the task ran, and it ended in {told}{hint}")


@requirement("ORCH-3058-004")
async def test_a_failing_engine_is_engine_failed(subject: Subject) -> None:
    """Let the engine fail at a task."""
    await _expect_injected(subject, "engine_failed")


@requirement("ORCH-3058-005")
async def test_a_full_engine_is_overloaded(subject: Subject) -> None:
    """Let the engine refuse a task for want of room."""
    await _expect_injected(subject, "overloaded")


@requirement("ORCH-3058-006")
async def test_an_engine_that_loads_is_not_ready(subject: Subject) -> None:
    """Let the engine refuse a task because it is loading."""
    await _expect_injected(subject, "not_ready")


@requirement("ORCH-3058-007")
async def test_a_task_the_engine_finds_malformed_is_invalid_request(subject: Subject) -> None:
    """Let the engine refuse a task as malformed."""
    await _expect_injected(subject, "invalid_request")


@requirement("ORCH-3058-008")
async def test_a_task_too_long_is_context_length_exceeded(subject: Subject) -> None:
    """Let the engine refuse a task as too long."""
    await _expect_injected(subject, "context_length_exceeded")


@requirement("ORCH-3058-009")
async def test_a_missing_credential_is_unauthenticated(subject: Subject) -> None:
    """Let the engine ask who we are."""
    await _expect_injected(subject, "unauthenticated")


@requirement("ORCH-3058-010")
async def test_what_is_not_permitted_is_permission_denied(subject: Subject) -> None:
    """Let the engine forbid a task."""
    await _expect_injected(subject, "permission_denied")


@requirement("ORCH-3058-011")
async def test_a_fault_of_the_task_is_not_retryable(subject: Subject) -> None:
    """Let tasks fail through their own fault and look at `retryable`."""
    async with subject.open() as adapter:
        failed = [await subject.unknown_model(adapter)]
        failed += await subject.failures(adapter, "invalid_request", "context_length_exceeded")

    for recording in failed:
        if recording.error is not None and recording.error.code in _TASK_CODES:
            expect(not recording.error.retryable, f"{recording.error.code} is marked as retryable")


@requirement("ORCH-3058-026")
async def test_a_refusal_of_access_is_not_retryable(subject: Subject) -> None:
    """Let the engine refuse tasks for want of a credential or a right and look at `retryable`."""
    async with subject.open() as adapter:
        failed = await subject.failures(adapter, *sorted(_ACCESS_CODES))
    if not failed:
        raise Skipped(f"the harness can inject none of {', '.join(sorted(_ACCESS_CODES))}")

    for recording in failed:
        if recording.error is not None and recording.error.code in _ACCESS_CODES:
            expect(not recording.error.retryable, f"{recording.error.code} is marked as retryable")


@requirement("ORCH-3058-012")
async def test_a_fault_that_passes_is_retryable(subject: Subject) -> None:
    """Let tasks fail for reasons that pass and look at `retryable`."""
    codes = ("connect_failed", "not_ready", "overloaded")
    async with subject.open() as adapter:
        failed = await subject.failures(adapter, *codes)
        try:
            async with subject.engine_stopped():
                failed.append(await subject.run(adapter, subject.harness.task()))
        except Skipped:
            if not failed:
                raise

    for recording in failed:
        if recording.error is not None and recording.error.code in codes:
            expect(recording.error.retryable, f"{recording.error.code} is not marked as retryable")


async def _all_failures(subject: Subject, prompt: str) -> list[Recording]:
    """Return tasks that failed in every way the harness has, with that prompt."""
    async with subject.open() as adapter:
        failed = [await subject.unknown_model(adapter, prompt=prompt)]
        if subject.declares(Capability.MESSAGES, subject.harness.task().model):
            messages = (Message(role="user", content=prompt),)
            failed.append(await subject.unknown_model(adapter, prompt=None, messages=messages))
        failed += await subject.failures(adapter, *INJECTED, prompt=prompt)
        with contextlib.suppress(Skipped):
            async with subject.engine_stopped():
                failed.append(await subject.run(adapter, subject.harness.task(prompt=prompt)))
    return [recording for recording in failed if recording.error is not None]


@requirement("ORCH-3058-013")
async def test_an_error_has_a_message(subject: Subject) -> None:
    """Let tasks fail in every way the harness has and look at the messages."""
    for recording in await _all_failures(subject, subject.harness.prompt):
        expect(recording.error and recording.error.message.strip(), f"the message of {_code(recording)} is empty")


@requirement("ORCH-3058-014")
async def test_no_message_contains_the_prompt(subject: Subject) -> None:
    """Let tasks with a conspicuous prompt fail in every way the harness has and search the messages."""
    for recording in await _all_failures(subject, f"say {CANARY} please"):
        expect(CANARY not in _told(recording), f"the message of {_code(recording)} contains text of the prompt")


@requirement("ORCH-3058-030")
async def test_no_message_passes_on_a_prompt_that_the_engine_repeats(subject: Subject) -> None:
    """Let the engine fail a task with an error that repeats its conspicuous prompt and search the message."""
    async with subject.open() as adapter:
        if CANARY in _told(await subject.unknown_model(adapter, prompt=f"say {CANARY} please")):
            raise Blocked("the adapter repeats prompts by itself")
        await subject.harness.fail_quoting()
        recording = await subject.run(adapter, subject.harness.task(prompt=f"say {CANARY} please"))

    code = _code(recording)
    expect(CANARY not in _told(recording), f"the message of {code} passes on the prompt that the engine repeats")


@requirement("ORCH-3058-015")
async def test_no_message_contains_a_credential(subject: Subject) -> None:
    """Let tasks fail in every way the harness has and search the messages for its secrets."""
    secrets = subject.secrets()
    for recording in await _all_failures(subject, subject.harness.prompt):
        leaked = any(secret in _told(recording) for secret in secrets)
        expect(not leaked, f"the message of {_code(recording)} contains a credential")


def _told(recording: Recording) -> str:
    return f"{recording.error.message if recording.error else ''} {recording.raised}"


@requirement("ORCH-3058-016")
async def test_a_foreign_cause_is_kept(subject: Subject) -> None:
    """Let tasks fail and look at the exceptions that the adapter raises: what led to one must be its `__cause__`."""
    async with subject.open() as adapter:
        failed = await subject.failures(adapter, *INJECTED)
        try:
            async with subject.engine_stopped():
                failed.append(await subject.run(adapter, subject.harness.task()))
        except Skipped:
            if not failed:
                raise

    for recording in failed:
        raised = recording.raised
        if not isinstance(raised, AdapterError) or raised.__context__ is None:
            continue
        foreign = raised.__context__
        expect(
            raised.__cause__ is not None,
            f"{raised.code} came of {type(foreign).__name__} and was raised without `from`",
        )


@requirement("ORCH-3058-018")
async def test_the_time_to_wait_is_passed_on(subject: Subject) -> None:
    """Let the engine refuse a task and say how long to wait."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        await subject.harness.fail_next("overloaded", retry_after_s=2.5)
        recording = await subject.run(adapter, subject.harness.task())

    told = recording.error.retry_after_s if recording.error else None
    expect(told == 2.5, f"the engine said to wait 2.5 s and the error says {told}")


@requirement("ORCH-3058-025")
async def test_no_prompt_breaks_the_adapter(subject: Subject) -> None:
    """Run prompts of unusual characters: each is answered, or refused by an error of the contract."""
    prompts = ("naïve 日本 🙂", "a\x00b", "\u202eright to left", "{} %s \\n <|end|>", " \n\t ", "word " * 2000)
    async with subject.open() as adapter:
        await subject.complete(adapter)
        for prompt in prompts:
            recording = await subject.run(adapter, subject.harness.task(prompt=prompt))
            raised = recording.raised
            expect(
                raised is None or isinstance(raised, AdapterError),
                f"the prompt {prompt[:20]!r} made the adapter raise {type(raised).__name__}: {raised}",
            )
