"""ORCH-3057: health, and the properties of an engine."""

from __future__ import annotations

import contextlib

import anyio

from adapter_api import AdapterError, AdapterFailed, Capability, End, HealthReport, HealthState, WorkerAdapter
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, Failed, Skipped, expect
from conformance_tests.subject import Subject
from conformance_tests.suite.cancel import SLACK_S


async def _health(adapter: WorkerAdapter, *, canary: bool = False) -> HealthReport:
    try:
        return await adapter.health(canary=canary)
    except Exception as exc:
        raise Blocked(f"health raised {type(exc).__name__}: {exc}") from exc


async def _health_of_a_working_engine(adapter: WorkerAdapter) -> HealthReport:
    """Return a report; blocks the check when it says that an engine is gone which is not."""
    report = await _health(adapter)
    if report.state is HealthState.UNREACHABLE:
        raise Blocked(f"the engine takes work and is reported as unreachable: {report.detail}")
    return report


@requirement("ORCH-3057-001")
async def test_health_is_bounded_while_the_engine_hangs(subject: Subject) -> None:
    """Pause the engine and measure how long a probe takes."""
    async with subject.open() as adapter, subject.engine_paused():
        limit_s = adapter.control_timeout_s + SLACK_S
        began = anyio.current_time()
        with anyio.move_on_after(3 * limit_s):
            await _health(adapter)
        took_s = anyio.current_time() - began

    expect(took_s <= limit_s, f"health took {took_s:.1f} s while the engine hung; at most {limit_s:g} s are allowed")


@requirement("ORCH-3057-002")
async def test_health_does_not_raise_when_the_engine_is_gone(subject: Subject) -> None:
    """Stop the engine and probe it."""
    async with subject.open() as adapter, subject.engine_stopped():
        try:
            await adapter.health()
        except Exception as exc:
            raise Failed(f"health raised {type(exc).__name__} while the engine was down: {exc}") from exc


@requirement("ORCH-3057-003")
async def test_an_engine_that_is_gone_is_unreachable(subject: Subject) -> None:
    """Stop the engine and read a new adapter's report."""
    async with subject.engine_stopped(), subject.open() as adapter:
        report = await _health(adapter)

    expect(report.state is HealthState.UNREACHABLE, f"the engine is down and its state is {report.state}")
    expect(not report.live and not report.ready, f"the engine is down, live={report.live} and ready={report.ready}")


@requirement("ORCH-3057-004")
async def test_an_engine_that_takes_work_is_ready(subject: Subject) -> None:
    """Run a task, then probe."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        report = await _health(adapter)

    expect(report.ready, f"the engine takes work and is reported as not ready: {report.state}, {report.detail}")


@requirement("ORCH-3057-005")
async def test_ready_means_live(subject: Subject) -> None:
    """Probe an engine that takes work and compare the flags."""
    async with subject.open() as adapter:
        report = await _health(adapter)

    expect(report.live or not report.ready, "the report says ready and not live")


@requirement("ORCH-3057-006")
async def test_an_engine_that_loads_is_live_and_not_ready(subject: Subject) -> None:
    """Make the engine alive but not ready, and probe it."""
    async with subject.open() as another:
        await _health_of_a_working_engine(another)
    async with subject.open() as adapter, subject.engine_unready():
        report = await _health(adapter)

    expect(report.live, f"the engine is alive and loading, and is reported as not live: {report.state}")
    expect(not report.ready, f"the engine is loading and is reported as ready: {report.state}")


@requirement("ORCH-3057-007")
async def test_health_sends_no_inference(subject: Subject) -> None:
    """Probe three times and count what the engine was sent."""
    before = await subject.harness.inferences()
    async with subject.open() as adapter:
        for _ in range(3):
            await _health(adapter)
        sent = await subject.harness.inferences() - before
        await subject.complete(adapter)
    if not await subject.harness.inferences() > before + sent:
        raise Blocked("Harness.inferences does not count the task that was sent after the probes")

    expect(sent == 0, f"three probes sent {sent} inferences")


@requirement("ORCH-3057-008")
async def test_health_names_the_model(subject: Subject) -> None:
    """Probe an engine that takes work and look for the harness's model."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        report = await _health_of_a_working_engine(adapter)

    model = subject.harness.task().model
    ready = {health.name: health.ready for health in report.models}
    expect(model in ready, f"the report names {sorted(ready) or 'no model'} and not {model!r}")
    expect(ready[model] or not report.ready, f"the engine is ready, and its model {model!r} is reported as not ready")


@requirement("ORCH-3057-009")
async def test_an_engine_that_has_gone_is_no_longer_ready(subject: Subject) -> None:
    """Probe, stop the engine, and probe again with the same adapter."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        await _health(adapter)
        async with subject.engine_stopped():

            async def noticed() -> bool:
                return not (await _health(adapter)).ready

            await subject.eventually(noticed, "the engine has gone and is still reported as ready")


@requirement("ORCH-3057-010")
async def test_an_engine_that_came_back_is_ready_again(subject: Subject) -> None:
    """Stop and start the engine and probe it with the same adapter."""
    async with subject.open() as adapter:
        if not (await _health(adapter)).ready:
            raise Blocked("the engine takes work and is reported as not ready")
        async with subject.engine_stopped():
            await _health(adapter)

        async def ready() -> bool:
            return (await _health(adapter)).ready

        await subject.eventually(ready, "the engine came back and is not reported as ready")


@requirement("ORCH-3057-011")
async def test_a_closed_adapter_is_stopped(subject: Subject) -> None:
    """Probe with an adapter that was closed."""
    async with subject.open() as adapter:
        pass
    report = await _health(adapter)

    expect(report.state is HealthState.STOPPED, f"the adapter is closed and its state is {report.state}")


@requirement("ORCH-3057-012")
async def test_a_probe_does_not_disturb_running_tasks(subject: Subject) -> None:
    """Probe in the middle of a repeatable task and compare its text."""
    async with subject.open() as adapter:
        known = await subject.repeatable(adapter)
        undisturbed = await subject.complete(adapter, known.task.model_copy(update={"job_id": "undisturbed-5309"}))
        recording = subject.submit(adapter, known.task.model_copy(update={"job_id": "disturbed-5309"}))
        await recording.until_token()
        for _ in range(3):
            await _health(adapter)
        await recording.rest()

    expect(isinstance(recording.terminal, End), f"a task failed as health was asked: {recording.summary()}")
    expect(recording.text == undisturbed.text, "a task got another text as health was asked")


@requirement("ORCH-3057-013")
async def test_canary_is_said_only_when_one_was_sent(subject: Subject) -> None:
    """Probe with and without a canary and compare with what the engine was sent."""
    async with subject.open() as adapter:
        plain = await _health(adapter)
        before = await _inferences(subject)
        asked = await _health(adapter, canary=True)
        after = await _inferences(subject)

    expect(not plain.canary, "the report of a probe without a canary says canary")
    if before is not None and after is not None and asked.ready:
        expect(asked.canary is False or after > before, "the report says canary and the engine was sent nothing")


async def _inferences(subject: Subject) -> int | None:
    try:
        return await subject.harness.inferences()
    except Skipped:
        return None


@requirement("ORCH-3057-014")
async def test_capacity_counts_the_tasks_in_flight(subject: Subject) -> None:
    """Probe while two tasks run, and after they were closed."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        async with subject.streaming(adapter), subject.streaming(adapter):
            during = (await _health_of_a_working_engine(adapter)).capacity.in_flight

        async def idle() -> bool:
            return (await _health(adapter)).capacity.in_flight == 0

        expect(during == 2, f"two tasks run and capacity.in_flight is {during}")
        await subject.eventually(idle, "no task runs any more and capacity.in_flight is not 0")


@requirement("ORCH-3057-017")
async def test_props_and_started_name_the_same_engine(subject: Subject) -> None:
    """Compare the engine's name in props and in started."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    told, props = recording.started.engine, subject.props.engine
    expect(told == props, f"started says engine {told!r} and props says {props!r}")


@requirement("ORCH-3057-018")
async def test_props_and_started_tell_the_same_version(subject: Subject) -> None:
    """Compare the engine's version in props and in started."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    told, props = recording.started.engine_version, subject.props.engine_version
    expect(told == props, f"started says engine version {told!r} and props says {props!r}")


@requirement("ORCH-3057-019")
async def test_props_list_the_model(subject: Subject) -> None:
    """Run a task and look for its model in props."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
    model = subject.harness.task().model
    listed = [props.name for props in subject.props.models]

    expect(model in listed, f"props lists {listed or 'no model'} and not {model!r}, which takes tasks")


_OF_THE_SERVER = {Capability.MODEL_CONTROL, Capability.SHARED_MEMORY}


@requirement("ORCH-3057-020")
async def test_a_capability_of_the_engine_is_one_of_its_models(subject: Subject) -> None:
    """Compare the engine's capabilities with those of its models together."""
    if not subject.props.models:
        raise Blocked("props lists no model")
    of_models: frozenset[Capability] = frozenset().union(*(props.capabilities for props in subject.props.models))
    lonely = sorted(subject.props.capabilities - of_models - _OF_THE_SERVER)

    expect(not lonely, f"props declares {', '.join(lonely)} for the engine and for none of its models")


@requirement("ORCH-3057-021")
async def test_props_are_bounded_and_typed_while_the_engine_is_gone(subject: Subject) -> None:
    """Ask for props while the engine hangs, or is down: they answer from memory or raise an error of the contract.

    An adapter that was made while the engine was down has no memory.
    """
    tried = 0
    with contextlib.suppress(Skipped):
        async with subject.engine_stopped():
            await _expect_no_guess(subject)
    for fault in (subject.engine_paused, subject.engine_stopped):
        try:
            async with subject.open() as adapter, fault():
                await _expect_props_in_time(adapter)
                tried += 1
        except Skipped as skipped:
            reason = skipped
    if not tried:
        raise reason


async def _expect_no_guess(subject: Subject) -> None:
    async with subject.open() as adapter:
        try:
            props = await adapter.props()
        except AdapterError:
            return
    known = [model.name for model in props.models if model.ready is not False]
    expect(not known, f"props of an engine that nobody has reached yet tell of the models {', '.join(known[:3])}")


async def _expect_props_in_time(adapter: WorkerAdapter) -> None:
    limit_s = adapter.control_timeout_s + SLACK_S
    began = anyio.current_time()
    try:
        with anyio.move_on_after(3 * limit_s):
            await adapter.props()
    except AdapterFailed as exc:
        raise Failed(f"props broke while the engine could not be asked: {exc}") from exc
    except AdapterError:
        pass
    except Exception as exc:
        raise Failed(f"props raised {type(exc).__name__} while the engine could not be asked: {exc}") from exc
    took_s = anyio.current_time() - began
    expect(took_s <= limit_s, f"props took {took_s:.1f} s while the engine could not be asked; allowed: {limit_s:g} s")


@requirement("ORCH-3057-022")
async def test_free_slots_are_some_of_all_slots(subject: Subject) -> None:
    """Compare the slots in props and in a report, idle and while two tasks run."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        told = [_slots(await _health(adapter))]
        async with subject.streaming(adapter), subject.streaming(adapter):
            told.append(_slots(await _health(adapter)))
    told.append((subject.props.slots_free, subject.props.slots_total))

    for free, total in told:
        expect(free is None or free >= 0, f"slots_free is {free}")
        expect(free is None or total is None or free <= total, f"slots_free is {free} of slots_total {total}")


def _slots(report: HealthReport) -> tuple[int | None, int | None]:
    return report.capacity.slots_free, report.capacity.slots_total


@requirement("ORCH-3057-028")
async def test_a_report_that_is_not_ready_says_why(subject: Subject) -> None:
    """Make the engine unready, or stop it, and read the report's detail."""
    tried = 0
    for fault in (subject.engine_unready, subject.engine_stopped):
        try:
            async with fault(), subject.open() as adapter:
                report = await _health(adapter)
        except Skipped as skipped:
            reason = skipped
            continue
        tried += 1
        reasons = [health.reason for health in report.models if health.reason]
        expect(report.ready or report.detail or reasons, f"the report says {report.state} and not why")
    if not tried:
        raise reason
