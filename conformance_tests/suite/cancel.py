"""ORCH-3060: cancelling a task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio

from adapter_api import CancelReceipt, Capability, End, Error, Token, WorkerAdapter
from adapter_api.stream import CLOSE_GRACE_S
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, HarnessBroke, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject, renamed

BURST = 50
LEAST_S = 0.15
"""The least time of a task that is to run out of it."""
TIMES_FIRST = 4
"""How many times as long as a first token takes here the time of such a task is, for it to reach the engine."""
SLACK_S = 3.0
"""What a busy machine may add to a limit."""


async def _cancel(adapter: WorkerAdapter, recording: Recording) -> CancelReceipt:
    return await adapter.cancel(recording.task.job_id)


async def _started(subject: Subject) -> int | None:
    try:
        return await subject.harness.inferences()
    except Skipped:
        return None


async def _time_to_run_out(subject: Subject, adapter: WorkerAdapter) -> float:
    """Return seconds in which a task reaches the engine, as long as that takes here, and in which no long task ends."""
    first_s = await subject.first_token_s(adapter)
    return max(LEAST_S, min(TIMES_FIRST * first_s, subject.harness.settle_s))


def _terminals(recording: Recording) -> list[str]:
    return [type(event).__name__.lower() for event in recording.read if isinstance(event, End | Error)]


@requirement("ORCH-3060-001")
async def test_a_cancelled_task_ends_as_cancelled(subject: Subject) -> None:
    """Cancel a long task after its first token and read its end."""
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        await _cancel(adapter, recording)
        await recording.rest()

    told = recording.terminal
    expect(isinstance(told, End) and told.finish_reason == "cancelled", f"the task ended so: {recording.summary()}")


@requirement("ORCH-3060-002")
async def test_no_token_follows_an_acknowledged_cancel(subject: Subject) -> None:
    """Cancel a long task that is being read all the time, and count tokens after the receipt."""
    acknowledged = False
    late = 0
    async with subject.open() as adapter, subject.streaming(adapter) as recording:

        async def cancel() -> None:
            nonlocal acknowledged
            await anyio.sleep(0.02)
            acknowledged = (await _cancel(adapter, recording)).acknowledged

        async with anyio.create_task_group() as beside:
            beside.start_soon(cancel)
            while (event := await recording.next()) is not None:
                late += acknowledged and isinstance(event, Token)

    expect(late == 0, f"{late} tokens were delivered after the receipt said acknowledged")


@requirement("ORCH-3060-003")
async def test_cancelling_an_unknown_job_finds_nothing(subject: Subject) -> None:
    """Cancel a job that never was."""
    async with subject.open() as adapter:
        receipt = await adapter.cancel("no-such-job-5309")

    expect(receipt.found is False, "the receipt for a job that never was says found=True")


@requirement("ORCH-3060-004")
async def test_cancelling_after_the_end_finds_nothing(subject: Subject) -> None:
    """Cancel a task that was read to its end."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)
        receipt = await _cancel(adapter, recording)

    expect(receipt.found is False, "the receipt for a task that is over says found=True")


@requirement("ORCH-3060-005")
async def test_cancelling_twice_leaves_one_terminal_event(subject: Subject) -> None:
    """Cancel a task twice at the same time, and once more."""
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        async with anyio.create_task_group() as cancels:
            cancels.start_soon(_cancel, adapter, recording)
            cancels.start_soon(_cancel, adapter, recording)
        await _cancel(adapter, recording)
        await recording.rest()

    expect(len(_terminals(recording)) == 1, f"a task cancelled twice ended in {_terminals(recording)}")


@requirement("ORCH-3060-006")
async def test_a_task_cancelled_before_it_is_read_has_no_token(subject: Subject) -> None:
    """Submit a task, cancel it before the first read, then read it."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = subject.submit(adapter, subject.harness.task())
        await _cancel(adapter, recording)
        await recording.rest()

    tokens = sum(isinstance(event, Token) for event in recording.read)
    expect(tokens == 0, f"{tokens} tokens came after a cancel before the start")
    expect(len(_terminals(recording)) == 1, f"it ended in {_terminals(recording) or 'nothing'}")


@requirement("ORCH-3060-007")
async def test_a_cancel_at_the_last_token_leaves_one_terminal_event(subject: Subject) -> None:
    """Cancel a short task after each of its last events in turn, and while the last one is being read."""
    async with subject.open() as adapter:
        events = len((await subject.complete(adapter)).read)
        for taken in range(max(1, events - 3), events + 1):
            recording = subject.submit(adapter, subject.harness.task())
            for _ in range(taken - 1):
                await recording.next()
            async with anyio.create_task_group() as beside:
                beside.start_soon(_cancel, adapter, recording)
                await recording.next()
            await recording.rest()
            expect(
                len(_terminals(recording)) == 1 and recording.error is None,
                f"cancelled after {taken} of {events} events, it ended so: {recording.summary()}",
            )
            raised = recording.raised_closing
            expect(
                raised is None and recording.stream.repairs == 0,
                f"cancelled after {taken} of {events} events, its generator raised {type(raised).__name__}: {raised}",
            )


@requirement("ORCH-3060-008")
async def test_a_cancel_affects_no_other_task(subject: Subject) -> None:
    """Cancel the second of three long tasks and read on in the others."""
    async with (
        subject.open() as adapter,
        subject.streaming(adapter) as first,
        subject.streaming(adapter) as second,
        subject.streaming(adapter) as third,
    ):
        await _cancel(adapter, second)
        for other in (first, third):
            for _ in range(3):
                event = await other.next()
                expect(
                    not isinstance(event, End | Error) and event is not None,
                    f"another task was cancelled, and this one ended: {other.summary()}",
                )


@requirement("ORCH-3060-009")
async def test_a_burst_of_cancels_ends_every_task(subject: Subject) -> None:
    """Cancel fifty running tasks at once, or as many as the harness allows, and read each to its end."""
    burst = min(BURST, subject.harness.streams)
    ended: list[list[str]] = []
    async with subject.open() as adapter:
        recordings = [subject.submit(adapter, subject.harness.long_task()) for _ in range(burst)]
        async with anyio.create_task_group() as group:
            for recording in recordings:
                group.start_soon(recording.next)
        async with anyio.create_task_group() as group:
            for recording in recordings:
                group.start_soon(_cancel, adapter, recording)
        for recording in recordings:
            await recording.rest()
            ended.append(_terminals(recording))

    odd = [terminals for terminals in ended if len(terminals) != 1]
    expect(not odd, f"{len(odd)} of {burst} tasks cancelled at once did not end with one terminal event: {odd[:3]}")


@requirement("ORCH-3060-010")
async def test_the_task_after_a_cancel_is_undisturbed(subject: Subject) -> None:
    """Run a repeatable task, cancel another, and run the first again."""
    async with subject.open() as adapter:
        known = await subject.repeatable(adapter)
        before = await subject.complete(adapter, renamed(known.task))
        async with subject.streaming(adapter) as recording:
            await _cancel(adapter, recording)
        after = await subject.run(adapter, renamed(known.task))

    expect(isinstance(after.terminal, End), f"the task after a cancel failed: {after.summary()}")
    expect(after.text == before.text, "the task after a cancel got another text than the same task before it")


@requirement("ORCH-3060-011")
async def test_a_cancel_is_bounded_while_the_engine_hangs(subject: Subject) -> None:
    """Pause the engine in the middle of a task and measure how long a cancel takes."""
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        limit_s = adapter.control_timeout_s + CLOSE_GRACE_S + SLACK_S
        async with subject.engine_paused():
            began = anyio.current_time()
            with anyio.move_on_after(2 * limit_s):
                await _cancel(adapter, recording)
            took_s = anyio.current_time() - began

    expect(
        took_s <= limit_s, f"the cancel took {took_s:.1f} s while the engine hung; at most {limit_s:g} s are allowed"
    )


@requirement("ORCH-3060-012")
async def test_a_receipt_says_what_a_cancel_can_do(subject: Subject) -> None:
    """Cancel a running task and look at `mode`."""
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        receipt = await _cancel(adapter, recording)
    if not receipt.found:
        raise Blocked("the receipt for a running task says found=False")

    modes = ("hard", "on_next_chunk", "client_only")
    expect(receipt.mode in modes, f"the receipt's mode is {receipt.mode!r}, not one of {', '.join(modes)}")
    if subject.declares(Capability.CANCEL_HARD, recording.task.model):
        expect(receipt.mode == "hard", f"cancel_hard is declared, and the receipt's mode is {receipt.mode}")


@requirement("ORCH-3060-013")
async def test_a_hard_cancel_that_is_not_declared_is_not_claimed(subject: Subject) -> None:
    """Cancel a running task of a model that does not declare hard cancels."""
    subject.only_without(Capability.CANCEL_HARD, subject.harness.long_task().model)
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        receipt = await _cancel(adapter, recording)

    expect(receipt.mode != "hard", "cancel_hard is not declared and the receipt's mode is hard")


@requirement("ORCH-3060-014")
async def test_a_cancelled_task_leaves_the_engine(subject: Subject) -> None:
    """Cancel a running task and ask the engine what it works on."""
    subject.only_with(Capability.CANCEL_HARD, subject.harness.long_task().model)
    await subject.can_prove_cancels()
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        await subject.must_work_on()
        await _cancel(adapter, recording)
        await subject.eventually(subject.engine_is_idle, "the engine still works on a task that was cancelled")


@requirement("ORCH-3060-015")
async def test_a_reader_that_is_cancelled_stops_its_task(subject: Subject) -> None:
    """Cancel the scope in which a stream is being read and ask the engine what it works on."""
    subject.only_with(Capability.CANCEL_HARD, subject.harness.long_task().model)
    await subject.can_prove_cancels()
    async with subject.open() as adapter:
        recording = subject.submit(adapter, subject.harness.long_task())
        await recording.until_token()
        await subject.must_work_on()
        async with anyio.create_task_group() as readers:
            readers.start_soon(recording.rest)
            await anyio.sleep(0.02)
            readers.cancel_scope.cancel()
        await subject.eventually(subject.engine_is_idle, "the engine still works on a task whose reader was cancelled")


@requirement("ORCH-3060-016")
async def test_a_task_that_outlives_its_time_says_so(subject: Subject) -> None:
    """Give a long task a fraction of the time it takes."""
    async with subject.open() as adapter:
        limit_s = await _time_to_run_out(subject, adapter)
        recording = await subject.run(adapter, subject.harness.long_task(timeout_s=limit_s))
    if isinstance(recording.terminal, End):
        raise Blocked(f"the harness's long task was done within {limit_s:.2g} s; make it longer")

    error = recording.error
    expect(
        error is not None and (error.code, error.stage) == ("deadline_exceeded", "total"),
        f"the task ended so, at the stage {error.stage if error else None}: {recording.summary()}",
    )


@requirement("ORCH-3060-017")
async def test_a_task_whose_time_is_up_leaves_the_engine(subject: Subject) -> None:
    """Let the time of a long task run out and ask the engine what it works on."""
    subject.only_with(Capability.CANCEL_HARD, subject.harness.long_task().model)
    await subject.can_prove_cancels()
    async with subject.open() as adapter:
        limit_s = await _time_to_run_out(subject, adapter)
        while not await _reaches_the_engine(subject, adapter, limit_s):
            if limit_s >= subject.harness.settle_s:
                raise Blocked(
                    f"the engine was sent nothing within the {limit_s:g} s of the task: it has nothing to stop"
                )
            limit_s = min(TIMES_FIRST * limit_s, subject.harness.settle_s)
        await subject.eventually(subject.engine_is_idle, "the engine still works on a task whose time was up")


async def _reaches_the_engine(subject: Subject, adapter: WorkerAdapter, limit_s: float) -> bool:
    """Run a long task that has so long, and return whether the engine was sent it."""
    before = await _started(subject)
    recording = await subject.run(adapter, subject.harness.long_task(timeout_s=limit_s))
    return bool(recording.tokens) or await _started(subject) != before


@requirement("ORCH-3060-020")
async def test_released_is_said_only_of_what_the_engine_let_go(subject: Subject) -> None:
    """Cancel a running task and, if the receipt says released, ask the engine at once; also while the engine hangs."""
    await subject.can_prove_cancels()
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        await subject.must_work_on()
        receipt = await _cancel(adapter, recording)
        busy = await subject.harness.in_flight()

    expect(not (receipt.released and busy), "the receipt says released and the engine still works on the task")
    with contextlib.suppress(Skipped):
        await _expect_nothing_released_while_paused(subject)


async def _expect_nothing_released_while_paused(subject: Subject) -> None:
    """Cancel a task in an engine that hangs: only the engine itself can say that it let go of it."""
    async with subject.open() as adapter, subject.streaming(adapter) as recording:
        async with subject.engine_paused():
            receipt = await _cancel(adapter, recording)
            busy = True
            if receipt.released:
                with contextlib.suppress(Skipped, HarnessBroke), anyio.move_on_after(1.0):
                    busy = bool(await subject.harness.in_flight())
    expect(not (receipt.released and busy), "the receipt says released of a task in an engine that hangs")


@requirement("ORCH-3060-021")
async def test_a_task_that_waits_for_its_first_token_can_be_cancelled(subject: Subject) -> None:
    """Pause the engine, submit a task, cancel it while it waits, and read its end."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        limit_s = adapter.control_timeout_s + CLOSE_GRACE_S + SLACK_S
        async with subject.engine_paused():
            recording = subject.submit(adapter, subject.harness.task())
            began = anyio.current_time()
            with anyio.move_on_after(2 * limit_s):
                async with anyio.create_task_group() as readers:
                    readers.start_soon(recording.rest)
                    await anyio.sleep(0.1)
                    await _cancel(adapter, recording)
            took_s = anyio.current_time() - began

    expect(took_s <= limit_s, f"a task that waited for its first token was cancelled and went on for {took_s:.1f} s")
    told = recording.terminal
    expect(
        isinstance(told, End) and told.finish_reason == "cancelled",
        f"cancelled while it waited for its first token, the task ended so: {recording.summary()}",
    )


@requirement("ORCH-3060-022")
async def test_endings_at_once_leave_a_reader_one_terminal(subject: Subject) -> None:
    """Read the long task and end it in two ways at once: two cancels, a cancel and a close, a close and a cancel."""
    for name in ("two cancels", "a cancel and a close of its stream", "a cancel and a close of the adapter"):
        async with subject.open() as adapter, subject.streaming(adapter) as recording:
            others: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
                "two cancels": partial(adapter.cancel, recording.task.job_id),
                "a cancel and a close of its stream": recording.stream.aclose,
                "a cancel and a close of the adapter": adapter.aclose,
            }
            broke: list[str] = []
            async with anyio.create_task_group() as group:
                group.start_soon(_read_on, recording, broke)
                await anyio.lowlevel.checkpoint()
                group.start_soon(adapter.cancel, recording.task.job_id)
                group.start_soon(others[name])
            expect(not broke, f"{name} raised in the reader: {', '.join(broke)}")
            ends = _terminals(recording)
            expect(len(ends) == 1, f"{name} left {len(ends)} terminal events: {', '.join(map(str, ends)) or 'none'}")


async def _read_on(recording: Recording, broke: list[str]) -> None:
    try:
        await recording.rest()
    except Exception as exc:
        broke.append(type(exc).__name__)
    except anyio.get_cancelled_exc_class() as exc:
        broke.append(type(exc).__name__)
        raise
