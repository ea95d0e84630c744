"""ORCH-3056: opening, using and closing an adapter."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading

import anyio

from adapter_api import AdapterClosed, AdapterError, Capability, End, Error, WorkerAdapter
from adapter_api.stream import CLOSE_GRACE_S
from conformance_tests.checks import requirement
from conformance_tests.outcome import Failed, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject, renamed
from conformance_tests.suite.cancel import SLACK_S


@requirement("ORCH-3056-001")
async def test_an_adapter_opens_while_its_engine_is_down(subject: Subject) -> None:
    """Stop the engine, then create and open an adapter; without that fault, open one while the engine is up."""
    try:
        async with subject.engine_stopped():
            await _open_and_close(subject, "while its engine is down")
    except Skipped:
        await _open_and_close(subject, "while its engine is up")
        raise


async def _open_and_close(subject: Subject, when: str) -> None:
    adapter = subject.adapter()
    try:
        await adapter.__aenter__()
    except Exception as exc:
        raise Failed(f"opening the adapter {when} raised {type(exc).__name__}: {exc}") from exc
    await subject.close(adapter)


@requirement("ORCH-3056-002")
async def test_an_adapter_opens_once(subject: Subject) -> None:
    """Open an adapter that is open, and one that was closed."""
    async with subject.open() as adapter:
        await _expect_closed(adapter, "open already")
    await _expect_closed(adapter, "closed")


async def _expect_closed(adapter: WorkerAdapter, state: str) -> None:
    try:
        await adapter.__aenter__()
    except AdapterClosed:
        return
    except Exception as exc:
        raise Failed(f"opening an adapter that is {state} raised {type(exc).__name__}, not AdapterClosed") from exc
    raise Failed(f"opening an adapter that is {state} succeeded")


@requirement("ORCH-3056-003")
async def test_closing_twice_is_harmless(subject: Subject) -> None:
    """Close an adapter twice, one after the other."""
    async with subject.open() as adapter:
        await subject.close(adapter)
        try:
            await adapter.aclose()
        except Exception as exc:
            raise Failed(f"the second close raised {type(exc).__name__}: {exc}") from exc


@requirement("ORCH-3056-004")
async def test_closing_ends_running_tasks_with_closed(subject: Subject) -> None:
    """Close an adapter with three running tasks and read each to its end."""
    async with subject.open() as adapter:
        recordings = [subject.submit(adapter, subject.harness.long_task()) for _ in range(3)]
        for recording in recordings:
            await recording.until_token()
        await subject.close(adapter)
        for recording in recordings:
            await recording.rest()

    for recording in recordings:
        terminals = [event for event in recording.read if isinstance(event, End | Error)]
        expect(len(terminals) == 1, f"a task that ran at the close has {len(terminals)} terminal events")
        code = recording.error.code if recording.error else "end"
        expect(code == "closed", f"a task that ran at the close ended so: {recording.summary()}")


@requirement("ORCH-3056-005")
async def test_a_task_before_the_opening_ends_in_closed(subject: Subject) -> None:
    """Submit a task to an adapter that was not opened."""
    adapter = subject.adapter()
    await _expect_closed_task(subject, adapter, "before the adapter was opened")


@requirement("ORCH-3056-006")
async def test_a_task_after_the_close_ends_in_closed(subject: Subject) -> None:
    """Submit a task to an adapter that was closed."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
    await _expect_closed_task(subject, adapter, "after the adapter was closed")


async def _expect_closed_task(subject: Subject, adapter: WorkerAdapter, when: str) -> None:
    recording = await subject.run(adapter, subject.harness.task())
    code = recording.error.code if recording.error else "end"
    expect(code == "closed", f"a task submitted {when} ended so: {recording.summary()}")


@requirement("ORCH-3056-007")
async def test_closing_is_bounded_while_the_engine_hangs(subject: Subject) -> None:
    """Pause the engine in the middle of a task and measure how long the close takes."""
    async with subject.open() as adapter, subject.streaming(adapter):
        limit_s = adapter.control_timeout_s + CLOSE_GRACE_S + SLACK_S
        async with subject.engine_paused():
            began = anyio.current_time()
            with anyio.move_on_after(2 * limit_s):
                await subject.close(adapter)
            took_s = anyio.current_time() - began

    expect(took_s <= limit_s, f"the close took {took_s:.1f} s while the engine hung; at most {limit_s:g} s are allowed")


@requirement("ORCH-3056-008")
async def test_closing_stops_the_tasks_in_the_engine(subject: Subject) -> None:
    """Close an adapter with a running task and ask the engine what it works on."""
    subject.only_with(Capability.CANCEL_HARD, subject.harness.long_task().model)
    await subject.can_prove_cancels()
    async with subject.open() as adapter:
        recording = subject.submit(adapter, subject.harness.long_task())
        await recording.until_token()
        await subject.must_work_on()
        await subject.close(adapter)
        await subject.eventually(
            subject.engine_is_idle, "the engine still works on a task of an adapter that is closed"
        )


@requirement("ORCH-3056-009")
async def test_a_job_id_is_free_after_its_task(subject: Subject) -> None:
    """Run a task under the `job_id` of one that ended, of one that failed, and of one that was cancelled."""
    async with subject.open() as adapter:
        ended = [("ended", await subject.complete(adapter)), ("failed", await subject.unknown_model(adapter))]
        async with subject.streaming(adapter) as cancelled:
            await adapter.cancel(cancelled.task.job_id)
            ended.append(("was cancelled", cancelled))
        for how, first in ended:
            again = await subject.run(adapter, subject.harness.task(job_id=first.task.job_id))
            expect(
                isinstance(again.terminal, End),
                f"a task under the job_id of one that {how} ended so: {again.summary()}",
            )


@requirement("ORCH-3056-010")
async def test_closing_a_stream_stops_its_task_in_the_engine(subject: Subject) -> None:
    """Close a stream after its first token and ask the engine what it works on."""
    subject.only_with(Capability.CANCEL_HARD, subject.harness.long_task().model)
    await subject.can_prove_cancels()
    async with subject.open() as adapter:
        recording = subject.submit(adapter, subject.harness.long_task())
        await recording.until_token()
        await subject.must_work_on()
        await recording.stream.aclose()
        await subject.eventually(subject.engine_is_idle, "the engine still works on a task whose stream was closed")


@requirement("ORCH-3056-011")
async def test_props_of_a_closed_adapter_raise_closed(subject: Subject) -> None:
    """Ask a closed adapter for its properties."""
    async with subject.open() as adapter:
        pass
    try:
        await adapter.props()
    except AdapterClosed:
        return
    except Exception as exc:
        raise Failed(f"props of a closed adapter raised {type(exc).__name__}, not AdapterClosed") from exc
    raise Failed("props of a closed adapter answered")


@requirement("ORCH-3056-012")
async def test_infer_on_a_closed_adapter_raises_closed(subject: Subject) -> None:
    """Send an inference to a closed adapter."""
    request = subject.harness.known_tensors("FP32").request
    async with subject.open() as adapter:
        pass
    try:
        await adapter.infer(request)
    except AdapterClosed:
        return
    except Exception as exc:
        raise Failed(f"infer on a closed adapter raised {type(exc).__name__}, not AdapterClosed") from exc
    raise Failed("infer on a closed adapter answered")


@requirement("ORCH-3056-013")
async def test_tasks_run_again_after_the_engine_came_back(subject: Subject) -> None:
    """Stop the engine under a running task, start it, and run tasks on the same adapter until one succeeds."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        async with subject.streaming(adapter) as running:
            async with subject.engine_stopped():
                await running.rest()
                await subject.run(adapter, subject.harness.task())
        last: Recording | None = None

        async def succeeds() -> bool:
            nonlocal last
            last = await subject.run(adapter, renamed(subject.harness.task()))
            return isinstance(last.terminal, End)

        try:
            await subject.eventually(succeeds, "no task succeeds on the same adapter after the engine came back")
        except Failed as failed:
            raise Failed(f"{failed.reason}: {last.summary() if last else ''}") from None


@requirement("ORCH-3056-018")
async def test_tasks_that_ended_leave_the_engine(subject: Subject) -> None:
    """Run tasks to their ends and ask the engine what it works on."""
    await subject.harness.in_flight()
    async with subject.open() as adapter:
        for _ in range(3):
            await subject.complete(adapter)
        await subject.unknown_model(adapter)
        await subject.failures(adapter, "engine_failed", "invalid_request")
        await subject.eventually(subject.engine_is_idle, "the engine still works on tasks that have ended")


@requirement("ORCH-3056-019")
async def test_creating_an_adapter_starts_nothing(subject: Subject) -> None:
    """Count threads around the creation of an adapter, and asyncio tasks where there are any."""
    before = _running()
    subject.adapter()
    started = _running() - before

    expect(not started, f"creating the adapter started {_names(started)}; start it in _open")


@requirement("ORCH-3056-020")
async def test_closing_leaves_nothing_running(subject: Subject) -> None:
    """Open, use and close an adapter twice, and compare the threads and asyncio tasks after each."""
    # What the process keeps for ever, such as a pool of threads, is there after the first.
    await _open_use_close(subject)
    before = _running()
    await _open_use_close(subject)

    async def gone() -> bool:
        return not _running() - before

    try:
        await subject.eventually(gone, "")
    except Failed:
        raise Failed(f"a closed adapter leaves {_names(_running() - before)} running") from None


async def _open_use_close(subject: Subject) -> None:
    async with subject.open() as adapter:
        await subject.complete(adapter)
        async with subject.streaming(adapter):
            pass


def _running() -> set[object]:
    """Return the threads and, on asyncio, the tasks that there are."""
    running: set[object] = set(threading.enumerate())
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        running |= asyncio.all_tasks()
    return running


def _names(running: set[object]) -> str:
    return ", ".join(
        f"thread {one.name!r}" if isinstance(one, threading.Thread) else f"task {getattr(one, 'get_name', str)()!r}"
        for one in list(running)[:5]
    )


@requirement("ORCH-3056-026")
async def test_closing_leaves_no_socket_open(subject: Subject) -> None:
    """Open, use and close an adapter twice, and compare the sockets of the process after each."""
    await _open_use_close(subject)
    before = _sockets()
    await _open_use_close(subject)

    async def gone() -> bool:
        return not _sockets() - before

    try:
        await subject.eventually(gone, "")
    except Failed:
        raise Failed(f"a closed adapter leaves {len(_sockets() - before)} sockets open") from None


def _sockets() -> set[tuple[int, int]]:
    """Return the sockets that this process has open, by what the system calls them."""
    try:
        files = os.listdir("/dev/fd")
    except OSError as exc:
        raise Skipped(f"this system does not list the files that a process has open: {exc}") from exc
    found = set()
    for name in files:
        with contextlib.suppress(OSError, ValueError):
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return found


@requirement("ORCH-3056-021")
async def test_adapters_share_nothing(subject: Subject) -> None:
    """Open two adapters, close the first, and use the second."""
    async with subject.open() as second:
        async with subject.open() as first:
            await subject.complete(first)
        recording = await subject.run(second, subject.harness.task())

    expect(
        isinstance(recording.terminal, End),
        f"a task failed because another adapter was closed: {recording.summary()}",
    )


@requirement("ORCH-3056-022")
async def test_an_adapter_goes_on_after_a_task_failed(subject: Subject) -> None:
    """Let tasks fail and run a plain one after each."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        failed = [await subject.unknown_model(adapter)]
        for code in ("invalid_request", "engine_failed", "connection_lost"):
            failed += await subject.failures(adapter, code)
            recording = await subject.run(adapter, subject.harness.task())
            expect(
                isinstance(recording.terminal, End),
                f"the task after one that failed ({failed[-1].summary()}) failed too: {recording.summary()}",
            )


@requirement("ORCH-3056-023")
async def test_closing_does_not_raise(subject: Subject) -> None:
    """Close an adapter that was used, one with a running task, and one whose engine is gone."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        await _close(adapter, "after a task")
    async with subject.open() as adapter, subject.streaming(adapter):
        await _close(adapter, "while a task runs")
    with contextlib.suppress(Skipped):
        async with subject.open() as adapter, subject.engine_stopped():
            await _close(adapter, "while its engine is down")


async def _close(adapter: WorkerAdapter, when: str) -> None:
    mended = adapter._repairs
    try:
        await adapter.aclose()
    except Exception as exc:
        raise Failed(f"closing the adapter {when} raised {type(exc).__name__}: {exc}") from exc
    expect(adapter._repairs == mended, f"_close raised {when}; the log says what")


@requirement("ORCH-3056-024")
async def test_methods_return_what_they_owe(subject: Subject) -> None:
    """Ask an adapter for everything, idle, with a running task that is cancelled, and while its engine is down."""
    async with subject.open() as adapter:
        await _ask_everything(adapter, "an idle adapter")
        async with subject.streaming(adapter) as recording:
            await adapter.cancel(recording.task.job_id)
        expect(adapter._repairs == 0, "_cancel returned or raised something else than the contract allows")
        # That props may fail then, and how, is for ORCH-3057-021.
        with contextlib.suppress(Skipped):
            async with subject.engine_stopped():
                await _ask_for_health(adapter, "an adapter whose engine is down")


async def _ask_everything(adapter: WorkerAdapter, whose: str) -> None:
    await _ask_for_health(adapter, whose)
    try:
        await adapter.props()
    except AdapterError as exc:
        expect(adapter._repairs == 0, f"_props of {whose}: {exc.message}")


async def _ask_for_health(adapter: WorkerAdapter, whose: str) -> None:
    with contextlib.suppress(AdapterError):  # ORCH-3057-002 is about that
        report = await adapter.health()
        expect(adapter._repairs == 0, f"_health of {whose} returned or raised something wrong: {report.detail}")
